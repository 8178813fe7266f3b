// What a process carries over from its parent and must not: signal state, limits, session.
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/kernel.h"
#include "base/signals.h"
#include "base/syscall.h"
#include "child/exec/beside_init.h"
#include "child/exec/stages.h"

namespace pyminicon::child {
namespace {

constexpr unsigned kRlimitCore = 4, kRlimitNofile = 7;

struct Rlimit {
  uint64_t soft, hard;
};

// 1 byte and not 0: a core_pattern that is a pipe ignores 0 and honours 1 (core(5)); for a file
// both mean that nothing is written. Until exec the core would be a picture of the caller's memory.
constexpr Rlimit kNoCore = {1, 1};

long set_rlimit(unsigned resource, const Rlimit& limit) {
  return sys::call(SYS_prlimit64, 0, resource, sys::arg(&limit), 0);
}

long get_rlimit(unsigned resource, Rlimit* limit) {
  return sys::call(SYS_prlimit64, 0, resource, 0, sys::arg(limit));
}

long forbid_cores(const LaunchPlan& plan) {
  Rlimit limit = kNoCore, before{};
  for (const RlimitPlan& row : plan.rlimits) {
    if (row.resource != kRlimitCore) continue;
    // The hard limit is what the caller's own row may reach: without CAP_SYS_RESOURCE only once.
    if (const long got = get_rlimit(kRlimitCore, &before); got < 0) return got;
    if (before.hard > limit.hard) limit.hard = before.hard;
  }
  const long result = set_rlimit(kRlimitCore, limit);
  if (result >= 0) return 0;
  // The hard limit is 0, or a filter such as our own keeps the limit as it is: fine if that's low,
  // unless it is 0 and a handler would run.
  const long got = get_rlimit(kRlimitCore, &before);
  if (got < 0 || before.soft > kNoCore.soft) return result;
  return plan.core_handler != 0 && before.soft != kNoCore.soft ? result : 0;
}

// By the host's /proc, which is still there. The kernel raises the least value that can be gone
// back to if the writer has CAP_SYS_RESOURCE in the host's user namespace (fs/proc/base.c); for a
// child in one of its own the parent writes the same once more.
long write_oom_score(int32_t score) {
  char text[8];
  int at = sizeof text;
  do {
    text[--at] = static_cast<char>('0' + score % 10);
    score /= 10;
  } while (score > 0);
  const long fd = sys::openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  const long written = sys::write(static_cast<int>(fd), text + at, sizeof text - at);
  sys::close(static_cast<int>(fd));
  return written;
}

// A real-time caller's container could hold the processors, one with a negative nice value or OOM
// score outlive what matters more.
long level(const FavourPlan& favour) {
  if (favour.write_oom_score != 0) {
    if (const long r = write_oom_score(favour.oom_score); r < 0) return r;
  }
  if (favour.level == 0) return 0;
  const int priority = 0;
  const long normal = sys::call(SYS_sched_setscheduler, 0, SCHED_OTHER, sys::arg(&priority));
  if (normal < 0) return normal;
  // The kernel's own answer is 20 less the value. One above 0 stays, and to lower it takes a right.
  constexpr long kOfZero = 20;
  const bool negative = sys::call(SYS_getpriority, PRIO_PROCESS, 0) > kOfZero;
  return negative ? sys::call(SYS_setpriority, PRIO_PROCESS, 0, 0) : 0;
}

}  // namespace

// CLONE_CLEAR_SIGHAND resets handlers but keeps SIG_IGN. The mask stays full until exec.
long reset_signals(Child& child) {
  if (const long result = level(child.plan.favour); result < 0) return result;
  // The modes of the set-up are meant as they stand.
  if (const long result = sys::call(SYS_umask, 0); result < 0) return result;
  if (const long result = forbid_cores(child.plan); result < 0) return result;
  return reset_signal_actions();
}

long set_rlimits(Child& child) {
  for (uint32_t i = 0; i < child.plan.rlimits.size; ++i) {
    const RlimitPlan& limit = child.plan.rlimits.data[i];
    child.report.index = static_cast<int32_t>(i);
    if (limit.resource == kRlimitCore && child.plan.helper_fd >= 0) {
      // Until exec, which undoes it, still no core; the memory is our own (needs_separate_memory).
      if (const long r = sys::prctl(PR_SET_DUMPABLE, 0); r < 0) return r;
    }
    Rlimit wanted{limit.soft, limit.hard};
    if (limit.resource == kRlimitNofile && parks_ready(child.plan)) {
      Rlimit before{};
      if (const long r = get_rlimit(limit.resource, &before); r < 0) return r;
      if (before.hard > wanted.hard) wanted.hard = before.hard;
      wanted.soft = wanted.hard;
    }
    const long result = set_rlimit(limit.resource, wanted);
    if (result < 0) return result;
  }
  return 0;
}

long set_core_limit(Child& child) {
  for (uint32_t i = 0; i < child.plan.rlimits.size; ++i) {
    const RlimitPlan& row = child.plan.rlimits.data[i];
    if (row.resource != kRlimitCore) continue;
    const long result = set_rlimit(kRlimitCore, {row.soft, row.hard});
    if (result >= 0) continue;
    child.report.stage = static_cast<uint32_t>(Stage::kRlimit);
    child.report.index = static_cast<int32_t>(i);
    return result;
  }
  return 0;
}

// For an init that has commands alone, while there are rights to raise a limit: each sets its own,
// but none could go above init's. Init itself isn't bound by them. The core limit is set for good.
long prepare_commands(Child& child) {
  if (const long r = set_core_limit(child); r < 0) return r;
  for (const RlimitPlan& row : child.plan.rlimits) {
    Rlimit limit{};
    if (const long r = get_rlimit(row.resource, &limit); r < 0) return r;
    if (row.resource == kRlimitCore || row.hard <= limit.hard) continue;
    if (const long r = set_rlimit(row.resource, {limit.soft, row.hard}); r < 0) return r;
  }
  return start_session(child);
}

// What a parked container is sent takes descriptors, more perhaps than its program may have: until
// then only the right to that limit is taken up. To lower it takes no capability.
long limit_descriptors(Child& child) {
  for (const RlimitPlan& limit : child.plan.rlimits) {
    if (limit.resource != kRlimitNofile) continue;
    if (const long r = set_rlimit(kRlimitNofile, {limit.soft, limit.hard}); r < 0) return r;
  }
  return 0;
}

// A session of its own: the caller's terminal is nobody's controlling terminal in here.
long start_session(Child& child) {
  if (const long result = sys::call(SYS_umask, child.plan.umask); result < 0) return result;
  if (child.plan.new_keyring != 0) {
    // The caller's session keyring would outlive the container and be shared with the next one.
    // Only where a filter doesn't deny the calls anyway: a user may have 200 keyrings.
    constexpr int kJoinSessionKeyring = 1;
    const long joined = sys::call(SYS_keyctl, kJoinSessionKeyring, 0);
    if (joined < 0 && joined != -ENOSYS) return joined;
  }
  const long session = sys::call(SYS_setsid);
  return session < 0 ? session : 0;
}

void close_all_but(View<int> kept) {
  constexpr unsigned kEnd = ~0U;
  for (unsigned from = 0;;) {
    unsigned next = kEnd;
    for (const int fd : kept) {
      const auto number = static_cast<unsigned>(fd);
      if (fd >= 0 && number >= from && number < next) next = number;
    }
    if (next > from) sys::call(kernel::kSysCloseRange, from, next - 1, 0);
    if (next == kEnd) return;
    from = next + 1;
  }
}

}  // namespace pyminicon::child
