// A tiny pid 1: reaps orphans, forwards signals, and tells the program's own wait status through a
// descriptor that the program never has. Only ever runs in the helper's own memory.
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

// Reaps all that has ended. Answers true and the status once the program itself is among them.
bool reap(long program, int* status) {
  bool ended = false;
  for (;;) {
    int word = 0;
    const long pid = sys::call(SYS_wait4, -1, sys::arg(&word), WNOHANG | __WALL, 0);
    if (pid == 0 || pid == -ECHILD) return ended;
    if (pid < 0)
      continue;  // not counted on: no signal interrupts us, and to miss an end is to hang
    if (pid == program) {
      ended = true;
      *status = word;
    }
  }
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
  pollfd watched[] = {{fds.signals, POLLIN, 0}, {fds.parent, POLLIN, 0}};
  for (int status = 0;;) {
    if (reap(program, &status)) {
      // Without the word the caller would take our own exit status for the program's.
      const long told = sys::write(fds.status, &status, sizeof status);
      sys::exit_group(told == static_cast<long>(sizeof status) ? 0 : 255);  // and all with it
    }
    const long ready = sys::call(SYS_ppoll, sys::arg(watched), 2, 0, 0, 0);
    if (ready > 0 && watched[1].revents != 0) sys::exit_group(137);  // the caller has died
    if (ready > 0 && watched[0].revents != 0) forward(fds.signals, program);
  }
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
  if (program == 0) return 0;
  sys::call(SYS_setsid);  // a Ctrl-C at the caller's terminal is not for us to forward twice
  close_all_but(fds);
  sys::call(SYS_munmap, static_cast<long>(kHelperPlanAddress), kHelperPlanMax);
  serve(program, fds);
}

}  // namespace pyminicon::child
