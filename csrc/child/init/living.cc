#include "child/init/living.h"

#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/command.h"
#include "base/message.h"
#include "base/syscall.h"
#include "child/init/compact.h"
#include "child/init/lineage.h"

namespace pyminicon::child {
namespace {

constexpr int64_t kGrace = 1000000000;  // ns from a stop signal to the end
constexpr int64_t kWary = 1000000000;   // ns

class Init {
 public:
  Init(long program, const InitFds& fds) : program_(program), fds_(fds) {}

  [[noreturn]] void serve() {
    share();
    if (program_ == 0) hire();
    for (;;) {
      const bool more = bury();
      if (stopping_ != 0 && (waiting() == count_ || sys::now_ns() > stopping_)) sys::exit_group(0);
      const bool nobody = stopping_ == 0 && waiting() == 0;
      wait(more, nobody && (!hires_ahead() || hire() < 0));
    }
  }

 private:
  enum { kParent, kSignals, kNotes, kControl, kCommands, kWatched };

  // After a full batch of the dead a pause: whoever forks without end would have a processor for
  // it.
  void wait(bool more, bool nobody) {
    pollfd watched[kWatched] = {{fds_.parent, POLLIN, 0},
                                {more ? -1 : fds_.signals, POLLIN, 0},
                                {fds_.notes_read, POLLIN, 0},
                                {fds_.control, POLLIN, 0},
                                {nobody ? fds_.commands : -1, POLLIN, 0}};
    const timespec pause{0, more ? 1000000 : 10000000};
    const bool soon = more || stopping_ != 0;
    sys::call(SYS_ppoll, sys::arg(watched), kWatched, soon ? sys::arg(&pause) : 0, 0, 0);
    if (watched[kParent].revents != 0) sys::exit_group(137);  // the caller has died
    if (watched[kSignals].revents != 0) forward();
    if (watched[kNotes].revents != 0) read_notes();
    if (watched[kControl].revents != 0) obey();
    if (watched[kCommands].revents != 0 && waiting() == 0) {
      idle_ = false;
      if (const long hired = hire(); hired < 0) {
        refuse_command(fds_.commands, static_cast<int>(-hired));
        __atomic_add_fetch(&workers_->taken, 1, __ATOMIC_SEQ_CST);
      }
    }
  }

  // Whether somebody is to wait before a command comes. For a program that has an init there is
  // nobody without any command; where workers are killed, or find no room to begin, one for each
  // command is enough for a while; and where none was needed for long it waits itself.
  bool hires_ahead() {
    if (wary_ != 0 && sys::now_ns() >= wary_) wary_ = 0;
    return wary_ == 0 && !idle_ && (count_ > 0 || program_ == 0);
  }

  uint32_t waiting() const { return count_waiting(*workers_); }

  void share() {
    void* const at = share_at(kWorkersAddress, sizeof(Workers), fds_.begun);
    if (at != nullptr) workers_ = static_cast<Workers*>(at);
  }

  long hire() {
    if (workers_ == &nobodys_) return -ENOMEM;
    uint32_t slot = 0;
    while (slot < workers_->used && load(&workers_->at[slot]) != kNobody) ++slot;
    if (slot == kMostWorkers || count_ == kMostWorkers) return -EAGAIN;
    if (slot == workers_->used) store(&workers_->used, slot + 1);
    store(&workers_->at[slot], kWaits);
    const long pid = sys::call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
      if (fds_.begun >= 0) sys::close(fds_.begun);
      work(fds_, *workers_, slot);
    }
    if (pid < 0) {
      store(&workers_->at[slot], kNobody);
      return pid;
    }
    known_[count_++] = {static_cast<int32_t>(pid), slot};
    return 0;
  }

  void read_notes() {
    char notes[64];
    while (sys::read(fds_.notes_read, notes, sizeof notes) == static_cast<long>(sizeof notes)) {
    }
  }

  // To the program; where there is none, what the caller sends is for all processes (he has no pid
  // in here), and what comes from inside for nobody.
  void forward() {
    signalfd_siginfo info;
    while (sys::read(fds_.signals, &info, sizeof info) == static_cast<long>(sizeof info)) {
      const int number = static_cast<int>(info.ssi_signo);
      if (number == SIGCHLD || (program_ == 0 && info.ssi_pid != 0)) continue;
      if (number == SIGPIPE && info.ssi_pid == 1) continue;  // nobody heard a word of ours
      sys::call(SYS_kill, program_ != 0 ? program_ : -1, number);
    }
  }

  void obey() {
    ControlMessage message{};
    const long size = sys::call(SYS_recvfrom, fds_.control, sys::arg(&message), sizeof message,
                                MSG_DONTWAIT, 0, 0);
    if (size == 0) sys::exit_group(0);  // the caller has let go of the container
    if (size != static_cast<long>(sizeof message)) return;
    if (message.order == InitOrder::kCompany) {
      // Never back: two that send at once may tell it in either order.
      if (static_cast<int32_t>(message.number - workers_->company) > 0) {
        store(&workers_->company, message.number);
      }
      return;
    }
    if (message.order == InitOrder::kShowBegun) {
      constexpr char kNone = 0;
      send_message(fds_.control, &kNone, sizeof kNone, &fds_.begun, fds_.begun >= 0 ? 1 : 0,
                   MSG_NOSIGNAL | MSG_DONTWAIT);
      return;
    }
    if (message.order == InitOrder::kTerminate) {
      store(&workers_->stopping, uint32_t{1});
      sys::call(SYS_kill, -1, message.number);
      if (stopping_ == 0) stopping_ = sys::now_ns() + kGrace;
      return;
    }
    if (message.number != 0) end(message.number);
  }

  // The worker is told first, then it is asked once more whose it is: it says that it waits before
  // it looks whether it may. So it can't have taken another command when what it has is ended.
  void end(uint32_t number) {
    for (uint32_t i = 0; i < count_; ++i) {
      const uint32_t* at = &workers_->at[known_[i].slot];
      if (load(at) != number) continue;
      sys::call(SYS_kill, known_[i].pid, kLastCommand);
      // Where its processes can't be found everything has to end.
      if (load(at) == number && end_descendants(fds_.proc, known_[i].pid) < 0) {
        sys::exit_group(137);
      }
      return;
    }
  }

  Worker* find(int32_t pid) {
    for (uint32_t i = 0; i < count_; ++i) {
      if (known_[i].pid == pid) return &known_[i];
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
      Worker* worker = find(static_cast<int32_t>(pid));
      if ((status & 0xff) == 0x7f) {  // a worker that somebody has stopped goes on
        if (worker != nullptr) sys::call(SYS_kill, pid, SIGCONT);
      } else if (pid == program_) {
        report(status);
      } else if (worker != nullptr) {
        const uint32_t at = load(&workers_->at[worker->slot]);
        if (status != 0) wary_ = sys::now_ns() + kWary;
        lost |= status != 0 && at != kWaits && at != kLeaves && at != kIdle;
        forget(worker);
        if (status == 0 && at == kIdle && waiting() == 0) idle_ = true;
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

  void forget(Worker* worker) {
    store(&workers_->at[worker->slot], kNobody);
    *worker = known_[--count_];
  }

  // What a killed worker was in charge of has become init's own children. Where there is a program
  // that has orphans as well these can't be told apart, and all has to end.
  void end_orphans() {
    if (program_ != 0 || end_strays(fds_.proc, {known_, count_}) < 0) sys::exit_group(137);
  }

  const long program_;
  const InitFds fds_;
  Workers nobodys_;  // without memory to share no worker is forked; zero, as this object is static
  Workers* workers_ = &nobodys_;
  int64_t wary_ = 0;      // until when no worker is forked ahead
  bool idle_ = false;     // the last one that waited has ended because no command came
  int64_t stopping_ = 0;  // when patience with whoever was told to stop is over
  uint32_t count_ = 0;
  Worker known_[kMostWorkers];
};

}  // namespace

void serve(long program, const InitFds& fds) {
  static Init init(program, fds);
  compact([](void* it) { static_cast<Init*>(it)->serve(); }, &init);
}

void* share_at(uint64_t address, unsigned long size, int file) {
  constexpr int kNoReplace = 0x100000;  // MAP_FIXED_NOREPLACE
  const int kind = MAP_SHARED | kNoReplace | (file < 0 ? MAP_ANONYMOUS : 0);
  const long at = sys::call(SYS_mmap, static_cast<long>(address), static_cast<long>(size),
                            PROT_READ | PROT_WRITE, kind, file, 0);
  return at == static_cast<long>(address) ? reinterpret_cast<void*>(at) : nullptr;
}

}  // namespace pyminicon::child
