// A command in a container that takes them: from what was asked for to a running program.
#pragma once

#include <memory>

#include "parent/launch/launch.h"

namespace pyminicon::parent {

// Returns when it executes its program. Throws LaunchFailure (ESHUTDOWN where the container has
// ended) or SetupTimeout; then nothing is left.
Launched start_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                       const LaunchOptions& options);

}  // namespace pyminicon::parent
