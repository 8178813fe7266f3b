#include <sched.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "base/text.h"
#include "child/birth/birth.h"
#include "child/birth/separate_memory.h"
#include "child/child.h"
#include "child/namespaces/stages.h"

namespace pyminicon::child {
namespace {

long keep(int fd) { return fd >= 0 ? sys::fcntl(fd, F_SETFD, 0) : 0; }

long keep_each(View<int32_t> fds) {
  for (const int32_t fd : fds) {
    if (const long result = keep(fd); result < 0) return result;
  }
  return 0;
}

// What the helper needs open. The descriptor table is this child's own copy: only here are these
// inherited.
long keep_descriptors(const LaunchPlan& plan, const Report& report) {
  const int32_t own[] = {plan.plan_fd,     plan.failure_fd, plan.ids.ready_fd, plan.ids.go_fd,
                         plan.status_fd,   plan.handout_fd, plan.park_fd,      plan.parent_pidfd,
                         plan.commands_fd, plan.control_fd, plan.stdio.fd[0],  plan.stdio.fd[1],
                         plan.stdio.fd[2], plan.gate_fd,    plan.way_out_fd};
  if (const long result = keep_each({own, sizeof own / sizeof own[0]}); result < 0) return result;
  if (const long result = keep_each(plan.tasks_fds); result < 0) return result;
  if (report.accompanied != 0) {
    if (const long result = keep(report.network_fd); result < 0) return result;
  }
  return keep_each(plan.stdio.pass);
}

long exec_helper(const LaunchPlan& plan, const Report& report) {
  if (const long result = keep_descriptors(plan, report); result < 0) return result;
  if (plan.namespaces & kernel::kCloneNewuser) keep_capabilities_across_exec();
  char number[12];
  append_number(number, 0, plan.plan_fd);
  char name[] = "pyminicon-init";
  char* argv[] = {name, number, nullptr};
  char* envp[] = {nullptr};
  return sys::call(SYS_execveat, plan.helper_fd, sys::arg(""), sys::arg(argv), sys::arg(envp),
                   kernel::kAtEmptyPath);
}

}  // namespace

void keep_capabilities_across_exec() {
  struct Header {
    uint32_t version;
    int32_t pid;
  } header{0x20080522, 0};
  struct Data {
    uint32_t effective, permitted, inheritable;
  } data[2]{};
  if (sys::call(SYS_capget, sys::arg(&header), sys::arg(data)) < 0) return;
  for (Data& word : data) word.inheritable = word.permitted;
  sys::call(SYS_capset, sys::arg(&header), sys::arg(data));
  constexpr int kPrCapAmbient = 47, kPrCapAmbientRaise = 2;
  for (int number = 0; number < 64; ++number) {
    if (sys::prctl(kPrCapAmbient, kPrCapAmbientRaise, number) < 0) break;
  }
}

void enter(const LaunchPlan& plan, Report& report) {
  if (plan.helper_fd < 0) become(plan, report);
  report.stage = static_cast<uint32_t>(Stage::kHelper);
  if (plan.time.private_clock != 0) {
    // A process changes its own clocks only at exec, or with its next child: before the helper's
    // exec.
    Child child(plan, report);
    report.stage = static_cast<uint32_t>(Stage::kTimens);
    if (const long result = unshare_clock(child); result < 0) {
      report.error = static_cast<int32_t>(-result);
      sys::exit_group(127);
    }
    report.stage = static_cast<uint32_t>(Stage::kHelper);
  }
  report.error = static_cast<int32_t>(-exec_helper(plan, report));
  sys::exit_group(127);
}

}  // namespace pyminicon::child
