#include "parent/reaper/reaper.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/clone.h"
#include "base/message.h"
#include "base/syscall.h"
#include "base/text.h"
#include "parent/failure.h"
#include "parent/process/clone.h"
#include "parent/process/helper_image.h"
#include "parent/process/patience.h"

namespace pyminicon::parent {
namespace {

struct ReaperStart {
  int helper, table, owner, socket, lifeline;
  int error = 0;  // of the exec, or of the clone before it
};

// In the grandchild: raw system calls only, as in csrc/child.
void exec_reaper(void* argument) {
  auto& start = *static_cast<ReaperStart*>(argument);
  char name[] = "pyminicon-watch", table[12], owner[12], socket[12], lifeline[12];
  char root[] = "/", empty[] = "";
  append_number(table, 0, start.table);
  append_number(owner, 0, start.owner);
  append_number(socket, 0, start.socket);
  append_number(lifeline, 0, start.lifeline);
  char* argv[] = {name, table, owner, socket, lifeline, nullptr};
  char* envp[] = {nullptr};
  sys::call(SYS_setsid);
  sys::call(SYS_chdir, sys::arg(root));
  sys::call(kernel::kSysCloseRange, 0, ~0U, kernel::kCloseRangeCloexec);
  for (const int fd : {start.table, start.owner, start.socket, start.lifeline}) {
    sys::fcntl(fd, F_SETFD, 0);
  }
  start.error = static_cast<int>(-sys::call(SYS_execveat, start.helper, sys::arg(empty),
                                            sys::arg(argv), sys::arg(envp), kernel::kAtEmptyPath));
  sys::exit_group(127);
}

// A child in between that ends at once: the reaper must be nobody's child, or a program that waits
// for all its children would wait for ever. Without an exit signal waitpid(-1) doesn't see it
// either.
void clone_reaper(void* argument) {
  alignas(16) char stack[8192];
  kernel::CloneArgs args{};
  args.flags = kernel::kCloneVm | kernel::kCloneVfork;  // this frame sleeps until the exec
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = sizeof stack;
  args.exit_signal = SIGCHLD;
  const long child = clone_onto_stack(&args, exec_reaper, argument);
  if (child < 0) static_cast<ReaperStart*>(argument)->error = static_cast<int>(-child);
  sys::exit_group(0);
}

void run_and_reap(ReaperStart& start) {
  kernel::CloneArgs args{};
  int pidfd = -1;
  args.flags = kernel::kClonePidfd;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long between = clone_and_wait(args, clone_reaper, &start);
  if (between < 0) throw LaunchFailure(static_cast<int>(-between), Stage::kWatch, "clone3");
  reap(pidfd);
  ::close(pidfd);
  if (start.error != 0) throw LaunchFailure(start.error, Stage::kWatch, "pyminicon-watch");
}

// One per process: after a fork a new one is made and the parent's left alone, whose lock may be
// held by a thread that isn't here.
class Reaper {
 public:
  const uint64_t generation = fork_generation();

  WatchSlot* take() {
    const std::lock_guard lock(mutex_);
    if (!running_ || died()) start();
    for (uint64_t tried = 0; tried < kWatchSlots; ++tried) {
      WatchSlot& slot = table_->slots[next_++ % kWatchSlots];
      if (slot.taken != 0) continue;
      slot.taken = 1;
      return &slot;
    }
    throw LaunchFailure(EAGAIN, Stage::kWatch, "more containers than one process may hold");
  }

  void send(int fd);
  void keep(int fd);
  void note(WatchPlaceKind kind, const std::string& path, const std::string& name);

 private:
  // One of them would have replaced the other.
  bool died() const { return dead(table_->alive[0]) && dead(table_->alive[1]); }
  static bool dead(uint32_t word) { return word == 0 || (word & FUTEX_OWNER_DIED) != 0; }
  void start();
  void send(int fd, char what) const;
  void make_table();
  void await_announcement() const;

  std::mutex mutex_;
  WatchTable* table_ = nullptr;
  bool running_ = false;
  uint64_t next_ = 0;
  KeptFd memory_, socket_;
  KeptFd lifeline_;  // a pipe's end, of which nothing is asked but to be closed when we have ended
  int shared_ = -1;  // what each guard keeps for us
  OpenFile shared_file_;
};

// Where both guards have died and what they shared with us is gone as well (a program closed all
// its descriptors), nobody can guard the containers that are: they end here.
void Reaper::make_table() {
  if (table_ != nullptr) {
    for (WatchSlot& slot : table_->slots) {
      if (slot.pid > 0) ::kill(slot.pid, SIGKILL);  // ours, and not yet reaped
    }
  }
  Fd memory(memfd_create("pyminicon-watch", MFD_CLOEXEC));
  if (!memory || ftruncate(memory.get(), sizeof(WatchTable)) < 0) {
    throw LaunchFailure(errno, Stage::kWatch, "memfd_create");
  }
  void* mapped =
      mmap(nullptr, sizeof(WatchTable), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (mapped == MAP_FAILED) throw LaunchFailure(errno, Stage::kWatch, "mmap");
  table_ = static_cast<WatchTable*>(mapped);  // the old one stays for the leases of its slots
  memory_.keep(std::move(memory));
}

void Reaper::start() {
  running_ = false;
  const Fd owner(static_cast<int>(syscall(kernel::kSysPidfdOpen, getpid(), 0)));
  if (!owner) throw LaunchFailure(errno, Stage::kWatch, "pidfd_open");
  const Fd helper = helper_image();
  if (!memory_.there()) make_table();
  Pipe socket = make_socketpair();
  socket_.keep(std::move(socket.write));
  Pipe lifeline = make_pipe();
  lifeline_.keep(std::move(lifeline.write));
  ReaperStart start{helper.get(), memory_.get(), owner.get(), socket.read.get(),
                    lifeline.read.get()};
  run_and_reap(start);
  socket.read.reset();
  await_announcement();
  running_ = true;
  if (shared_ >= 0 && is_still(shared_, shared_file_)) send(shared_, kWatchKeep);
}

void Reaper::send(int fd) {
  const std::lock_guard lock(mutex_);
  if (running_) send(fd, kWatchClose);
}

void Reaper::keep(int fd) {
  const std::lock_guard lock(mutex_);
  shared_ = mark_file(fd, shared_file_) ? fd : -1;
  if (running_ && shared_ >= 0) send(shared_, kWatchKeep);
}

void Reaper::send(int fd, char what) const {
  if (!socket_.there()) return;
  send_message(socket_.get(), &what, 1, &fd, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Reaper::note(WatchPlaceKind kind, const std::string& path, const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (table_ == nullptr) return;
  for (WatchPlace& place : table_->places) {
    if (place.kind == kWatchFree) {
      if (path.size() >= sizeof place.path || name.size() >= sizeof place.name) return;
      std::memcpy(place.path, path.c_str(), path.size() + 1);
      std::memcpy(place.name, name.c_str(), name.size() + 1);
      place.kind = kind;
      return;
    }
    if (place.kind == kind && path == place.path && name == place.name) return;
  }
}

// It is nobody's child: that it has ended before it could begin is heard by the socket's end.
void Reaper::await_announcement() const {
  constexpr int64_t kMost = 5000 * kMillisecond;
  char byte;
  const bool answered = readable_within({now_ns() + kMost}, socket_.get());
  if (answered && ::read(socket_.get(), &byte, 1) == 1) return;
  throw LaunchFailure(answered ? ECHILD : ETIMEDOUT, Stage::kWatch, "pyminicon-watch");
}

Reaper& reaper() {
  static std::atomic<Reaper*> current{
      nullptr};  // never destroyed: threads launch until the very end
  return of_this_process(current);
}

}  // namespace

void close_by_reaper(Fd fd) {
  if (fd) reaper().send(fd.get());  // what isn't sent is closed here
}

void keep_by_reaper(int fd) { reaper().keep(fd); }

void note_place(WatchPlaceKind kind, const std::string& path, const std::string& name) {
  reaper().note(kind, path, name);
}

WatchLease lease_watch_slot() {
  WatchSlot* slot = reaper().take();
  return WatchLease(slot, fork_generation());
}

WatchLease::WatchLease(WatchLease&& other) noexcept
    : slot_(std::exchange(other.slot_, nullptr)), generation_(other.generation_) {}

WatchLease& WatchLease::operator=(WatchLease&& other) noexcept {
  release();
  slot_ = std::exchange(other.slot_, nullptr);
  generation_ = other.generation_;
  return *this;
}

void WatchLease::set_cgroup(const std::string& directory, bool host_pids) {
  if (directory.size() >= sizeof slot_->cgroup) {
    throw LaunchFailure(ENAMETOOLONG, Stage::kCgroup, directory);  // a cut name may be another's
  }
  std::strncpy(slot_->cgroup, directory.c_str(), sizeof slot_->cgroup - 1);
  slot_->host_pids = host_pids;
}

void WatchLease::release() {
  if (slot_ == nullptr || generation_ != fork_generation()) return;  // a forked worker owns nothing
  slot_->pid = 0;
  slot_->cgroup[0] = 0;
  slot_->host_pids = 0;
  __atomic_store_n(const_cast<int32_t*>(&slot_->taken), 0, __ATOMIC_RELEASE);
  slot_ = nullptr;
}

}  // namespace pyminicon::parent
