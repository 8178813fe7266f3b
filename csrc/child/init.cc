// A tiny pid 1: reaps orphans, forwards signals, and tells the program's own wait status through a
// descriptor that the program never has. Only ever runs in the helper's own memory.
#include <linux/futex.h>
#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/own_memory.h"

#ifndef P_ALL
#define P_ALL 0
#endif

namespace pyminicon::child {
namespace {

// siginfo_t as waitid(2) fills it; the rest is for other signals.
struct Ended {
  int number, error, code, reserved, pid;
  uint32_t uid;
  int status, rest[25];
};
static_assert(sizeof(Ended) == 128);

enum class Reaped { kNothingMore, kMore, kProgram };

// Reaps what has ended, so many at once that a storm of forks keeps nothing else waiting. Only an
// end is an end: whoever calls PTRACE_TRACEME has us for a tracer, and waitid shows its stops as
// well.
Reaped reap(long program, int* status) {
  constexpr int kBatch = 128;
  bool ended = false;
  for (int i = 0; i < kBatch; ++i) {
    Ended one{};
    const long result =
        sys::call(SYS_waitid, P_ALL, 0, sys::arg(&one), WEXITED | WNOHANG | __WALL, 0);
    const bool nothing = result == -ECHILD || (result == 0 && one.pid == 0);
    if (nothing) return ended ? Reaped::kProgram : Reaped::kNothingMore;
    if (result < 0) continue;  // not counted on; to miss an end would be to hang
    if (one.pid != program || one.code > CLD_DUMPED) continue;
    ended = true;
    *status =
        one.code == CLD_EXITED ? one.status << 8 : one.status | (one.code == CLD_DUMPED ? 0x80 : 0);
  }
  return ended ? Reaped::kProgram : Reaped::kMore;
}

void forward(int signals, long program) {
  signalfd_siginfo info;
  while (sys::read(signals, &info, sizeof info) == static_cast<long>(sizeof info)) {
    const int number = static_cast<int>(info.ssi_signo);
    if (number != SIGCHLD) sys::call(SYS_kill, program, number);
  }
}

struct InitFds {
  int signals, status, parent;
};

[[noreturn]] void serve(long program, const InitFds& fds) {
  pollfd watched[] = {{fds.parent, POLLIN, 0}, {fds.signals, POLLIN, 0}};
  constexpr timespec kPause{0, 1000000};
  for (int status = 0;;) {
    const Reaped reaped = reap(program, &status);
    if (reaped == Reaped::kProgram) {
      // Without the word the caller would take our own exit status for the program's.
      const long told = sys::write(fds.status, &status, sizeof status);
      sys::exit_group(told == static_cast<long>(sizeof status) ? 0 : 255);  // and all with it
    }
    // After a full batch a pause: whoever forks without end would have a processor for it.
    const bool more = reaped == Reaped::kMore;
    sys::call(SYS_ppoll, sys::arg(watched), more ? 1 : 2, more ? sys::arg(&kPause) : 0, 0, 0);
    if (watched[0].revents != 0) sys::exit_group(137);  // the caller has died
    forward(fds.signals, program);
  }
}

// What serve() lives on, tried once while a launch can still fail: the filter may be one of the
// user's own.
long try_duties(long program, const InitFds& fds) {
  Ended none{};
  pollfd watched{fds.parent, POLLIN, 0};
  constexpr timespec kAtOnce{0, 0};
  const long waited =
      sys::call(SYS_waitid, P_ALL, 0, sys::arg(&none), WEXITED | WNOHANG | WNOWAIT | __WALL, 0);
  if (waited < 0) return waited;
  const long polled = sys::call(SYS_ppoll, sys::arg(&watched), 1, sys::arg(&kAtOnce), 0, 0);
  if (polled < 0) return polled;
  if (const long r = sys::call(SYS_kill, program, 0); r < 0) return r;
  if (const long r = sys::read(fds.signals, &none, sizeof none); r < 0 && r != -EAGAIN) return r;
  return sys::write(fds.status, &none, 0);
}

// A pipe that init held would never read as ended. Ranges around its own, where they are: to move
// them could fail, and by now the program has begun.
void close_all_but(const InitFds& kept) {
  constexpr unsigned kEnd = ~0U;
  const int all[] = {kept.signals, kept.status, kept.parent};
  for (unsigned from = 0;;) {
    unsigned next = kEnd;
    for (const int fd : all) {
      const auto number = static_cast<unsigned>(fd);
      if (fd >= 0 && number >= from && number < next) next = number;
    }
    if (next > from) sys::call(kernel::kSysCloseRange, from, next - 1, 0);
    if (next == kEnd) return;
    from = next + 1;
  }
}

// SIGCONT, by the kernel, when the caller has ended and with it the pipe's other end: an init that
// was stopped goes on then, sees it, and ends.
long be_continued(int pipe) {
  if (const long r = sys::fcntl(pipe, F_SETOWN, sys::call(SYS_getpid)); r < 0) return r;
  if (const long r = sys::fcntl(pipe, 10 /* F_SETSIG */, SIGCONT); r < 0) return r;
  const long flags = sys::fcntl(pipe, F_GETFL);
  return flags < 0 ? flags : sys::fcntl(pipe, F_SETFL, flags | O_ASYNC);
}

// Before there is a program to look at it, init is what it will be.
[[noreturn]] void become_init(Child& child, long program, const InitFds& fds) {
  const long continued = be_continued(fds.status);
  sys::call(SYS_setsid);  // a Ctrl-C at the caller's terminal is not for us to forward twice
  close_all_but(fds);
  long result = continued < 0 ? continued : confine_init(child);
  if (result >= 0) result = try_duties(program, fds);
  if (result < 0) {
    child.report.error = static_cast<int32_t>(-result);
    sys::exit_group(127);
  }
  __atomic_store_n(&child.report.init_ready, 1, __ATOMIC_RELEASE);
  sys::call(SYS_futex, sys::arg(&child.report.init_ready), FUTEX_WAKE, 1);
  sys::call(SYS_munmap, static_cast<long>(kHelperPlanAddress), kHelperPlanMax);
  serve(program, fds);
}

// As long as it takes: the end of init is the end of whoever waits here. It looks again now and
// then, should init's waking have been refused (a filter around all of us can refuse any call).
long await_init(Child& child) {
  constexpr timespec kLookAgain{0, 20000000};
  uint32_t* ready = &child.report.init_ready;
  while (__atomic_load_n(ready, __ATOMIC_ACQUIRE) == 0) {
    sys::call(SYS_futex, sys::arg(ready), FUTEX_WAIT, 0, sys::arg(&kLookAgain));
  }
  return 0;
}

}  // namespace

long split_init(Child& child) {
  if (child.plan.init == 0) return 0;
  // Before there is anybody to look: no one may ptrace pid 1 or open its descriptors.
  if (const long r = sys::prctl(PR_SET_DUMPABLE, 0); r < 0) return r;
  // All that can fail comes before the fork: afterwards there would be a program without an init.
  const uint64_t all = ~0ULL;
  const long signals =
      sys::call(SYS_signalfd4, -1, sys::arg(&all), sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) return signals;
  const InitFds fds{static_cast<int>(signals), child.plan.status_fd, child.plan.parent_pidfd};
  const long program = sys::call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (program < 0) return program;
  if (program > 0) become_init(child, program, fds);
  const long raised = raise_barrier(child);
  return raised < 0 ? raised : await_init(child);
}

}  // namespace pyminicon::child
