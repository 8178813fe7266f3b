// The child side of a launch. Nothing here allocates, locks or calls libc; see base/syscall.h.
#pragma once

#include "base/plan.h"
#include "child/mapped.h"

namespace pyminicon::child {

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
  bool bounded = false;         // the bounding set has been cut
  bool filtered = false;        // the filter has been loaded
};

// Becomes the container: runs every stage, then execve. Never returns; a failure is left in the
// report and ends the process.
[[noreturn]] void become(const LaunchPlan& plan, Report& report);

// The stages, each in its own file; each answers 0 or -errno.
long reset_signals(Child&);
long enter_userns(Child&);
long join_cgroups(Child&);
long enter_cgroupns(Child&);
long unshare_clock(Child&);
long enter_timens(Child&);
long set_hostname(Child&);
long enter_network(Child&);
long await_loopback(Child&);
long write_sysctls(Child&);
long make_mounts_private(Child&);
long mount_root(Child&);
long mount_before_sysfs(Child&);
long mount_sysfs(Child&);
long pivot(Child&);
long open_gate(Child&);
long hand_out(Child&);
long park(Child&);
long start_session(Child&);
long take_terminal(Child&);
long move_stdio(Child&);
long set_rlimits(Child&);
long limit_descriptors(Child&);
long change_directory(Child&);
long try_directory(Child&);
long enter_directory(Child&);
long change_user(Child&);
long become_user(Child&);  // change_user, where the bounding set has been cut already
long drop_capabilities(Child&);
long restrict_execution(Child&);
long load_seccomp(Child&);
long close_descriptors(Child&);
long execute(Child&);

}  // namespace pyminicon::child
