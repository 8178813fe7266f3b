// What the child side of a launch knows of itself. Nothing in this folder allocates, locks or calls
// libc; see base/syscall.h.
#pragma once

#include "base/plan.h"

namespace pyminicon::child {

// Sources that the parent has id-mapped (child/mounts/mapped.h).
constexpr int kMostMapped = 253;  // SCM_MAX_FD

struct Mapped {
  int32_t keys[kMostMapped];  // a layer's index, or kMappedOp + the index of the mount operation
  int fds[kMostMapped];       // detached mounts
  int count = 0;
};

struct Child {
  Child(const LaunchPlan& the_plan, Report& the_report)
      : plan(the_plan), report(the_report), stdio(the_plan.stdio), exec(&the_plan.exec) {}

  // Nothing is executed but what comes as a command.
  bool lives() const { return exec->argv[0] == nullptr; }
  // A filter of the user's own may forbid what init lives on: each command loads it, and init has
  // another.
  bool filters_commands() const { return lives() && plan.seccomp.own != 0; }

  const LaunchPlan& plan;
  Report& report;
  StdioPlan stdio;       // the plan's, or what a parked container was sent
  const ExecPlan* exec;  // likewise
  Mapped mapped;
  int root = -1;             // the container's root directory (the mount), once it is attached
  int mount_namespace = -1;  // opened while the host's /proc is there, for hand_out
  int proc = -1, sys = -1;   // the container's own procfs and sysfs, when they are fresh ones
  int settings = -1;  // /proc/sys before it is made read-only, where sysctls are to be written
  int null = -1, empty = -1;          // what files and directories are masked with
  const char* masked_file = nullptr;  // one that is masked already, below the own procfs
  const char* masked_dir = nullptr;   // likewise below the own sysfs
  int place = -1;    // where several mounts are to stand beside each other (make_place)
  int scratch = -1;  // the directory that holds "root" and the layers' upper and work directories
  bool network_joined = false;  // the one that a netns helper has made
  bool is_there = false;        // a command: in its working directory
  bool has_groups = false;      // a command: those that are asked for are inherited
  bool bounded = false;         // the bounding set has been cut
  bool filtered = false;        // the filter has been loaded
};

}  // namespace pyminicon::child
