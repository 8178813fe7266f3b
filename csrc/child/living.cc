#include "child/living.h"

#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/command.h"
#include "base/syscall.h"
#include "child/lineage.h"

namespace pyminicon::child {
namespace {

constexpr uint32_t kMostWorkers = 8192;
constexpr int64_t kGrace = 1000000000;  // ns from a stop signal to the end

int64_t now() {
  timespec time{};
  sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, sys::arg(&time));
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

class Init {
 public:
  Init(long program, const InitFds& fds) : program_(program), fds_(fds) {}

  [[noreturn]] void serve() {
    if (program_ == 0) hire();
    for (;;) {
      listen();  // before the dead are looked at: whether one of them was at work
      const bool more = bury();
      if (stopping_ != 0 && (idle() || now() > stopping_)) sys::exit_group(0);
      wait(more);
    }
  }

 private:
  enum { kParent, kSignals, kTaken, kControl, kCommands, kWatched };

  // After a full batch of the dead a pause: whoever forks without end would have a processor for
  // it.
  void wait(bool more) {
    pollfd watched[kWatched] = {{fds_.parent, POLLIN, 0},
                                {more ? -1 : fds_.signals, POLLIN, 0},
                                {fds_.taken_read, POLLIN, 0},
                                {fds_.control, POLLIN, 0},
                                {idle_ == 0 ? fds_.commands : -1, POLLIN, 0}};
    const timespec pause{0, more ? 1000000 : 10000000};
    const bool soon = more || stopping_ != 0;
    sys::call(SYS_ppoll, sys::arg(watched), kWatched, soon ? sys::arg(&pause) : 0, 0, 0);
    if (watched[kParent].revents != 0) sys::exit_group(137);  // the caller has died
    if (watched[kSignals].revents != 0) forward();
    if (watched[kTaken].revents != 0) listen();
    if (watched[kControl].revents != 0) obey();
    if (watched[kCommands].revents != 0 && idle_ == 0) {
      if (const long hired = hire(); hired < 0) {
        refuse_command(fds_.commands, static_cast<int>(-hired));
      }
    }
  }

  bool idle() const { return count_ == idle_; }

  // Without it a worker takes one command.
  void share() {
    const long at = sys::call(SYS_mmap, 0, sizeof(uint32_t), PROT_READ | PROT_WRITE,
                              MAP_ANONYMOUS | MAP_SHARED, -1, 0);
    shared_ = at > 0 ? reinterpret_cast<uint32_t*>(at) : nullptr;
  }

  void count_shared(int32_t change) {
    if (shared_ != nullptr) __atomic_fetch_add(shared_, change, __ATOMIC_ACQ_REL);
  }

  long hire() {
    if (idle_ != 0) return 0;
    if (count_ == kMostWorkers) return -EAGAIN;
    if (shared_ == nullptr) share();
    count_shared(1);
    const long pid = sys::call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) work(fds_, shared_);
    if (pid < 0) count_shared(-1);
    if (pid < 0) return pid;
    workers_[count_++] = {static_cast<int32_t>(pid), 0};
    ++idle_;
    return 0;
  }

  // All that the workers have said so far.
  void listen() {
    Taken taken{};
    while (sys::read(fds_.taken_read, &taken, sizeof taken) == static_cast<long>(sizeof taken)) {
      Taken* worker = find(taken.worker);
      if (worker == nullptr) continue;
      if (worker->number == 0 && taken.number != 0) --idle_;
      if (worker->number != 0 && taken.number == 0) ++idle_;
      worker->number = taken.number;
    }
  }

  // To the program; where there is none, what the caller sends is for all processes (he has no pid
  // in here), and what comes from inside for nobody.
  void forward() {
    signalfd_siginfo info;
    while (sys::read(fds_.signals, &info, sizeof info) == static_cast<long>(sizeof info)) {
      const int number = static_cast<int>(info.ssi_signo);
      if (number == SIGCHLD || (program_ == 0 && info.ssi_pid != 0)) continue;
      sys::call(SYS_kill, program_ != 0 ? program_ : -1, number);
    }
  }

  void obey() {
    ControlMessage message{};
    const long size = sys::call(SYS_recvfrom, fds_.control, sys::arg(&message), sizeof message,
                                MSG_DONTWAIT, 0, 0);
    if (size == 0) sys::exit_group(0);  // the caller has let go of the container
    if (size != static_cast<long>(sizeof message)) return;
    if (message.order == InitOrder::kTerminate) {
      sys::call(SYS_kill, -1, message.number);
      if (stopping_ == 0) stopping_ = now() + kGrace;
      return;
    }
    if (message.number != 0) end(message.number);
  }

  // The worker is told first, then it is asked once more whose it is: it says that it waits before
  // it looks whether it may. So it can't have taken another command when what it has is ended.
  void end(uint32_t number) {
    for (uint32_t i = 0; i < count_; ++i) {
      if (workers_[i].number != number) continue;
      sys::call(SYS_kill, workers_[i].worker, kLastCommand);
      listen();
      // Where its processes can't be found everything has to end.
      if (workers_[i].number == number && end_descendants(fds_.proc, workers_[i].worker) < 0) {
        sys::exit_group(137);
      }
      return;
    }
  }

  Taken* find(int32_t worker) {
    for (uint32_t i = 0; i < count_; ++i) {
      if (workers_[i].worker == worker) return &workers_[i];
    }
    return nullptr;
  }

  // True after a full batch. Only an end is an end: whoever calls PTRACE_TRACEME has us for a
  // tracer, and wait4 shows its stops as well.
  bool bury() {
    constexpr int kBatch = 128;
    bool lost = false, more = true;
    for (int i = 0; i < kBatch; ++i) {
      int status = 0;
      const long pid = sys::call(SYS_wait4, -1, sys::arg(&status), WNOHANG | WUNTRACED | __WALL, 0);
      if (pid == 0 || pid == -ECHILD) {
        more = false;
        break;
      }
      if (pid < 0) continue;  // not counted on; to miss an end would be to hang
      Taken* worker = find(static_cast<int32_t>(pid));
      if ((status & 0xff) == 0x7f) {  // a worker that somebody has stopped goes on
        if (worker != nullptr) sys::call(SYS_kill, pid, SIGCONT);
      } else if (pid == program_) {
        report(status);
      } else if (worker != nullptr) {
        lost |= status != 0 && worker->number != 0;
        // Who waited and was killed couldn't say that it doesn't any more.
        if (status != 0 && worker->number == 0) count_shared(-1);
        forget(worker);
      }
    }
    if (lost) end_orphans();
    return more;
  }

  // The program has ended, and all goes with it. Without the word the caller would take our own
  // exit status for the program's.
  [[noreturn]] void report(int status) {
    const long told = sys::write(fds_.status, &status, sizeof status);
    sys::exit_group(told == static_cast<long>(sizeof status) ? 0 : 255);
  }

  void forget(Taken* worker) {
    if (worker->number == 0) --idle_;
    *worker = workers_[--count_];
  }

  // What a killed worker was in charge of has become init's own children. Where there is a program
  // that has orphans as well these can't be told apart, and all has to end.
  void end_orphans() {
    if (program_ != 0 || end_strays(fds_.proc, {workers_, count_}) < 0) sys::exit_group(137);
  }

  const long program_;
  const InitFds fds_;
  uint32_t* shared_ = nullptr;  // how many workers wait, as they know it themselves
  uint32_t idle_ = 0;           // the same, as they have said
  int64_t stopping_ = 0;        // when patience with who was told to stop is over
  uint32_t count_ = 0;
  Taken workers_[kMostWorkers];
};

}  // namespace

void serve(long program, const InitFds& fds) {
  // Not on the stack, which is as small as the caller's limit says.
  static Init init(program, fds);
  init.serve();
}

}  // namespace pyminicon::child
