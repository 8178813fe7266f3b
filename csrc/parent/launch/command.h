// A command in a container that takes them: from what was asked for to a running program.
#pragma once

#include <memory>

#include "parent/launch/launch.h"

namespace pyminicon::parent {

// The cgroup of one command, if it has one, and the memory that it shares with its container.
struct CommandGroup {
  uint32_t number = 0;
  Cgroup cgroup;
  uint64_t memory_limit = 0;
};

// Call it with nobody else at `container`. Where that is one to live in, each command has a cgroup:
// in others a kill for memory ends all. `timed`: it counts processor time, where the container's
// doesn't by `clock`.
CommandGroup group_for_command(Launched& container, bool timed, const CgroupSpec* clock);

// Sends it and doesn't wait: heard_of() tells more when its pidfd is readable. Throws LaunchFailure
// (ESHUTDOWN where the container has ended) or SetupTimeout; then nothing is left.
Launched send_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                      const LaunchOptions& options, CommandGroup group);

// True when it executes its program, or has ended; false: not yet. Throws LaunchFailure,
// NeverBegan.
bool heard_of(Launched& made, const Living& container, const CommandSpec& command);

// Of a quiet one that has ended: throws LaunchFailure where it couldn't begin, NeverBegan.
void insist_on_beginning(const Launched& made, const Living& container, const CommandSpec& command);

// Whether the next command would find a use for a runner: only where a cgroup is slow to join, as
// elsewhere it takes as long to make one as it saves. Call both with nobody else at `container`.
bool wants_runner(const Launched& container);
// Whatever fails, the next command finds nobody.
void make_runner(Launched& container);
// As send_command(), to the runner of `container` (see Living::take_runner). Nothing where it can't
// have this command, or is gone.
std::optional<Launched> send_to_runner(const std::shared_ptr<Living>& container,
                                       const CommandSpec& command, const LaunchOptions& options,
                                       Runner runner, uint64_t memory_limit);
// Who had the command, a worker or a runner, was killed before there was a process that is it: to
// send it again is to run it once.
struct NeverBegan {};

// Waits until it has executed its program, as start_command() does.
void await_beginning(Launched& made, const Living& container, const CommandSpec& command,
                     const LaunchOptions& options);

// The first two: returns when it executes its program, or where it is quiet at once.
Launched start_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                       const LaunchOptions& options, CommandGroup group);

}  // namespace pyminicon::parent
