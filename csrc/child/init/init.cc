// How pid 1 becomes our init, which reaps orphans, forwards signals, takes commands, and tells the
// program's own wait status through a descriptor that the program never has. Only ever runs in the
// helper's own memory.
#include "child/init/init.h"

#include <linux/futex.h>
#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>

#include "base/syscall.h"
#include "child/exec/beside_init.h"
#include "child/init/living.h"

namespace pyminicon::child {
namespace {

// SIGCONT, by the kernel, when the caller has ended and with it the pipe's other end: an init that
// was stopped goes on then, sees it, and ends.
long be_continued(int pipe) {
  if (const long r = sys::fcntl(pipe, F_SETOWN, sys::call(SYS_getpid)); r < 0) return r;
  if (const long r = sys::fcntl(pipe, 10 /* F_SETSIG */, SIGCONT); r < 0) return r;
  const long flags = sys::fcntl(pipe, F_GETFL);
  return flags < 0 ? flags : sys::fcntl(pipe, F_SETFL, flags | O_ASYNC);
}

// What serve() lives on, tried once while a launch can still fail: the filter may be one of the
// user's own.
long try_duties(long program, const InitFds& fds) {
  int status = 0;
  char note;
  pollfd watched{fds.parent, POLLIN, 0};
  constexpr timespec kAtOnce{0, 0};
  const long waited = sys::call(SYS_wait4, -1, sys::arg(&status), WNOHANG | WUNTRACED | __WALL, 0);
  if (waited < 0 && waited != -ECHILD) return waited;
  if (program != 0 && waited == program && (status & 0xff) != 0x7f) {
    // A step of its own has failed, or it was killed.
    sys::write(fds.status, &status, sizeof status);
    sys::exit_group(127);
  }
  const long polled = sys::call(SYS_ppoll, sys::arg(&watched), 1, sys::arg(&kAtOnce), 0, 0);
  if (polled < 0) return polled;
  if (program != 0) {
    if (const long r = sys::call(SYS_kill, program, 0); r < 0) return r;
  }
  if (const long r = sys::read(fds.notes_read, &note, sizeof note); r < 0 && r != -EAGAIN) return r;
  return sys::write(fds.status, &status, 0);
}

// Where there is no program its streams have no use either: their numbers are taken by something
// that holds up nobody, or a command's descriptors would get them.
long let_go_of_streams(const InitFds& fds) {
  for (int i = 0; i < 3; ++i) {
    if (const long r = sys::call(SYS_dup3, fds.signals, i, O_CLOEXEC); r < 0) return r;
  }
  return sys::prctl(PR_SET_NAME, sys::arg("pyminicon-init"));
}

// Before there is a program to look at it, init is what it will be. It becomes that beside what the
// program's process still has to do, which waits for it before it executes anything.
[[noreturn]] void become_init(Child& child, long program, const InitFds& fds) {
  const long continued = be_continued(fds.status);
  const bool lives = program == 0;
  // A Ctrl-C at the caller's terminal is not for us to forward twice.
  if (!lives) sys::call(SYS_setsid);
  const int failure = lives ? child.plan.failure_fd : -1;  // until init is what it will be
  const int kept[] = {fds.signals,
                      fds.status,
                      fds.parent,
                      fds.commands,
                      fds.control,
                      fds.proc,
                      fds.notes_read,
                      fds.notes_write,
                      fds.begun,
                      failure,
                      0,
                      1,
                      2};
  const long let_go = let_go_of_streams(fds);
  close_all_but({kept, sizeof kept / sizeof kept[0]});
  long result = continued < 0 ? continued : let_go;
  if (result >= 0 && lives) result = prepare_commands(child);
  if (result >= 0) result = confine_init(child);
  if (result >= 0) result = try_duties(program, fds);
  if (result < 0) {
    child.report.init_error = static_cast<int32_t>(-result);
    sys::exit_group(127);
  }
  __atomic_store_n(&child.report.init, kInitReady, __ATOMIC_RELEASE);
  sys::call(SYS_futex, sys::arg(&child.report.init), FUTEX_WAKE, 1);
  if (lives) sys::close(failure);
  sys::call(SYS_munmap, static_cast<long>(kHelperPlanAddress), kHelperPlanMax);
  serve(program, fds);
}

bool is_at_root() {
  char path[2]{};
  return sys::call(SYS_getcwd, sys::arg(path), sizeof path) == 2 && path[0] == '/';
}

// For what init and its workers share. Without a file, which limits may forbid, the caller takes
// every command for one that has begun.
int make_file() {
  const long file = sys::call(SYS_memfd_create, sys::arg("pyminicon-workers"), MFD_CLOEXEC);
  if (file < 0) return -1;
  if (sys::call(SYS_ftruncate, file, sizeof(Workers)) == 0) return static_cast<int>(file);
  sys::close(static_cast<int>(file));
  return -1;
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
  int notes[2] = {-1, -1};
  if (const long r = sys::call(SYS_pipe2, sys::arg(notes), O_CLOEXEC); r < 0) return r;
  if (const long r = sys::fcntl(notes[0], F_SETFL, O_NONBLOCK); r < 0) return r;
  const LaunchPlan& plan = child.plan;
  const InitFds fds{static_cast<int>(signals),
                    plan.status_fd,
                    plan.parent_pidfd,
                    plan.commands_fd,
                    plan.control_fd,
                    child.proc,
                    notes[0],
                    notes[1],
                    plan.control_fd < 0 ? -1 : make_file(),
                    is_at_root()};
  child.report.init = kInitBegins;
  if (child.lives()) become_init(child, 0, fds);
  if (const long r = confine_both(child); r < 0) return r;
  const long program = sys::call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (program < 0) return program;
  if (program > 0) become_init(child, program, fds);
  return raise_barrier(child);
}

}  // namespace pyminicon::child
