// A command in a container that takes them: from what was asked for to a running program.
#pragma once

#include <memory>

#include "parent/launch/launch.h"

namespace pyminicon::parent {

// Sends it and doesn't wait: heard_of() tells more when its pidfd is readable. Throws LaunchFailure
// (ESHUTDOWN where the container has ended) or SetupTimeout; then nothing is left.
Launched send_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                      const LaunchOptions& options);

// True when it executes its program, or has ended; false: not yet. Throws LaunchFailure.
bool heard_of(Launched& made, const Living& container, const CommandSpec& command);

// Both: returns when it executes its program.
Launched start_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                       const LaunchOptions& options);

}  // namespace pyminicon::parent
