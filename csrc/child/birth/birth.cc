// A container's birth on one screen: the stages in the order in which they must run.
#include "child/birth/birth.h"

#include <time.h>

#include "base/syscall.h"
#include "child/child.h"
#include "child/exec/stages.h"
#include "child/init/init.h"
#include "child/mounts/stages.h"
#include "child/namespaces/stages.h"

namespace pyminicon::child {
namespace {

struct Step {
  Stage stage;
  long (*run)(Child&);
};

// Why this order: docs/stages.md has a row for each line.
constexpr Step kBirth[] = {
    {Stage::kSignals, reset_signals},        // nothing of the caller's ignored signals or mask
    {Stage::kUserns, enter_userns},          // first: it owns all that follows
    {Stage::kCgroupJoin, join_cgroups},      // before any memory is charged
    {Stage::kCgroupns, enter_cgroupns},      // after the join: the own cgroup becomes the root
    {Stage::kTimens, enter_timens},          // the host's /proc is still there to set offsets
    {Stage::kHostname, set_hostname},        //
    {Stage::kMountns, make_mounts_private},  // before the first mount, or it leaks to the host
    {Stage::kRootfs, mount_root},            //
    {Stage::kMount, mount_before_sysfs},     // proc needs the old one visible in a user namespace
    {Stage::kNetwork, enter_network},        // late: a netns helper makes it meanwhile
    {Stage::kSysfs, mount_sysfs},            // shows the network namespace it is mounted in
    {Stage::kPivot, pivot},                  // the old root is gone after this line
    {Stage::kLoopback, await_loopback},      // late as well, for the same reason
    {Stage::kSysctl, write_sysctls},         // the network is there, with all its interfaces
    {Stage::kGate, open_gate},          // its address is there, and nobody who could take the port
    {Stage::kCollect, hand_out},        // what `collect` will read, before anybody lives here
    {Stage::kPark, park},               // a template's container waits here for its run
    {Stage::kStdio, move_stdio},        //
    {Stage::kInit, split_init},         // init stays behind here, the program's process goes on
    {Stage::kSession, start_session},   // the program leads it, also under init
    {Stage::kTerminal, take_terminal},  // only a session's leader without a terminal gets one
    {Stage::kLandlock, restrict_execution},  // opens descriptors; while CAP_SYS_ADMIN is there
    {Stage::kRlimit, set_rlimits},           // after all that opens descriptors
    {Stage::kCwd, change_directory},         // after pivot_root, checked to be inside
    {Stage::kFds, close_descriptors},        // only marks them: the failure pipe lives until exec
    {Stage::kUser, change_user},             // bounding set, groups, gid, uid
    {Stage::kCapabilities, drop_capabilities},
    {Stage::kSeccomp, load_seccomp},  // last before exec: the filter forbids the set-up
    {Stage::kExec, execute},
};

// A container of a template does, before it is asked for, all that no run can change.
constexpr Step kParkedBirth[] = {
    {Stage::kSession, start_session},
    {Stage::kRlimit, set_rlimits},
    {Stage::kUser, change_user},
    {Stage::kCapabilities, drop_capabilities},
    {Stage::kSeccomp, load_seccomp},  // the built-in profile, which allows what follows
    {Stage::kPark, park},
    {Stage::kStdio, move_stdio},
    {Stage::kCwd, change_directory},
    {Stage::kFds, close_descriptors},
    {Stage::kRlimit, limit_descriptors},
    {Stage::kExec, execute},
};

void stamp(Report& report, Stage stage) {
  if (report.traced == 0) return;
  report.stamps[static_cast<uint32_t>(stage)] = static_cast<uint64_t>(sys::now_ns());
}

void take(Child& child, const Step& step) {
  Report& report = child.report;
  report.stage = static_cast<uint32_t>(step.stage);
  report.index = -1;
  report.source = 0;
  stamp(report, step.stage);
  if (const long result = step.run(child); result < 0) {
    report.error = static_cast<int32_t>(-result);
    sys::exit_group(127);
  }
}

}  // namespace

void become(const LaunchPlan& plan, Report& report) {
  Child child(plan, report);
  for (const Step& step : kBirth) {
    if (parks_ready(plan) && step.stage == Stage::kPark) break;
    take(child, step);
  }
  for (const Step& step : kParkedBirth) take(child, step);
  sys::exit_group(127);  // execute() returns only with an error
}

}  // namespace pyminicon::child
