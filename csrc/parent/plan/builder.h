#pragma once

#include "parent/plan/arena.h"
#include "parent/plan/spec.h"

namespace pyminicon::parent {

// Lays the plan out in `arena`, a PlanHeader first; the caller settles it where it will be read.
// `mounts` stands for spec.mounts: the launch has put its own cgroup's directories into it.
void build_plan(const PlanSpec& spec, const ExecSpec& exec, const std::vector<OpSpec>& mounts,
                const LaunchFds& fds, Arena& arena);

// Lays out a RunPlan, what a parked container is told, at the beginning of `arena`.
void build_run(const ExecSpec& exec, const int (&stdio)[3], const std::vector<int>& pass,
               Arena& arena);

// What is sent along with a command.
struct CommandFds {
  const int (&stdio)[3];
  bool terminal;
  const std::vector<int>& pass;
  uint32_t joins;
};

// Lays out a CommandPlan at the beginning of `arena`.
void build_command(const CommandSpec& command, const CommandGround& ground, const CommandFds& fds,
                   Arena& arena);

}  // namespace pyminicon::parent
