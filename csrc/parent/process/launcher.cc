#include "parent/process/launcher.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "base/clone.h"
#include "base/message.h"
#include "base/syscall.h"
#include "child/birth/launcher.h"
#include "parent/failure.h"
#include "parent/files/fd.h"
#include "parent/process/clone.h"

namespace pyminicon::parent {
namespace {

// What a child inherits and can't be given afterwards.
struct Likeness {
  int policy = 0, nice = 0;
  std::array<uid_t, 3> users{};
  std::array<gid_t, 3> groups{};
  std::array<int, 2> filters{};  // no_new_privs, seccomp
  std::array<ino_t, 2> namespaces{};

  // Whether a child of a process like this one can be made a child of one like `other`: an ordinary
  // user can't take a nice value back.
  bool serves(const Likeness& other) const {
    return policy == other.policy && nice <= other.nice && users == other.users &&
           groups == other.groups && filters == other.filters && namespaces == other.namespaces;
  }
};

Likeness of_this_thread() {
  Likeness like;
  like.policy = sched_getscheduler(0);
  like.nice = getpriority(PRIO_PROCESS, 0);
  getresuid(&like.users[0], &like.users[1], &like.users[2]);
  getresgid(&like.groups[0], &like.groups[1], &like.groups[2]);
  like.filters = {prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECCOMP, 0, 0, 0, 0)};
  constexpr const char* kPaths[] = {"/proc/thread-self/ns/mnt", "/proc/thread-self/ns/user"};
  for (size_t i = 0; i < 2; ++i) {
    struct stat info{};
    if (stat(kPaths[i], &info) == 0) like.namespaces[i] = info.st_ino;
  }
  return like;
}

// One per process: after a fork the parent's launcher isn't ours.
class Launcher {
 public:
  const uint64_t generation = fork_generation();

  pid_t pid() {
    const std::lock_guard lock(mutex_);
    const Likeness like = of_this_thread();
    if (pid_ != 0 && (has_ended() || !like_.serves(like))) end();
    if (pid_ == 0) start(like);
    return pid_;
  }

  // Those of a child are its launcher's parent's (CLONE_PARENT).
  bool stays() {
    const std::lock_guard lock(mutex_);
    return stays_;
  }

  long clone(child::BirthOrder& order, const std::vector<int>& fds, Fd& pidfd) {
    const std::lock_guard lock(mutex_);
    if (pid_ == 0 || !send(order, fds)) return -ESRCH;
    return receive(pidfd) ? order.result : -ESRCH;
  }

 private:
  bool has_ended() const { return !socket_.there() || reap(pidfd_.get(), WNOHANG | WNOWAIT) != 0; }
  void end();
  void start(const Likeness& like);
  bool send(child::BirthOrder& order, const std::vector<int>& fds) const;
  bool receive(Fd& pidfd) const;

  std::mutex mutex_;
  pid_t pid_ = 0;
  bool stays_ = false;
  KeptFd socket_, pidfd_;
  Likeness like_;
  child::LauncherMemory* memory_ = nullptr;
};

void Launcher::end() {
  socket_.reset();  // its sign to end
  syscall(kernel::kSysPidfdSendSignal, pidfd_.get(), SIGKILL, nullptr, 0);
  reap(pidfd_.get());
  pidfd_.reset();
  pid_ = 0;
}

void Launcher::start(const Likeness& like) {
  if (memory_ == nullptr) {
    void* const memory = mmap(nullptr, sizeof(child::LauncherMemory), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw LaunchFailure(errno, Stage::kCgroup, "launcher");
    memory_ = static_cast<child::LauncherMemory*>(memory);
  }
  Pipe ends = make_socketpair();
  socket_.keep(std::move(ends.read));
  memory_->socket = ends.write.get();
  kernel::CloneArgs args{};
  int pidfd = -1;
  // No exit signal: a program that waits for all its children doesn't see this one. A thread
  // pointer of its own: that of the thread which makes it ends with the thread.
  args.flags =
      kernel::kClonePidfd | kernel::kCloneVm | kernel::kCloneClearSighand | kernel::kCloneSettls;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.tls = reinterpret_cast<uint64_t>(memory_->thread + sizeof memory_->thread / 2);
  args.stack = reinterpret_cast<uint64_t>(memory_->stack);
  args.stack_size = sizeof memory_->stack;
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  long pid = -EAGAIN;
  stays_ = in_main_thread();
  if (!stays_) {
    pid = clone_through_thread(args, child::serve_births, memory_);
    stays_ = pid > 0;
  }
  if (pid == -EAGAIN) pid = clone_onto_stack(&args, child::serve_births, memory_);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) throw LaunchFailure(static_cast<int>(-pid), Stage::kCgroup, "launcher");
  pid_ = static_cast<pid_t>(pid);
  pidfd_.keep(Fd(pidfd));
  like_ = like;
}

bool Launcher::send(child::BirthOrder& order, const std::vector<int>& fds) const {
  constexpr size_t kMost = child::BirthOrder::kMostInMessage;
  for (size_t at = 0; at < fds.size(); at += kMost) {
    const size_t count = std::min(kMost, fds.size() - at);
    child::BirthOrder* address = &order;
    long sent = 0;
    do {
      sent = send_message(socket_.get(), static_cast<const void*>(&address), sizeof(void*),
                          fds.data() + at, static_cast<uint32_t>(count), MSG_NOSIGNAL);
    } while (sent == -EINTR);
    if (sent < 0) return false;
  }
  return true;
}

bool Launcher::receive(Fd& pidfd) const {
  char byte = 0;
  int fd = -1;
  Received came{};
  do {
    came = receive_message(socket_.get(), &byte, 1, &fd, 1, 0);
  } while (came.bytes == -EINTR);
  if (came.fds > 0) pidfd = Fd(fd);
  return came.bytes > 0;
}

Launcher& the_launcher() {
  static std::atomic<Launcher*> current{nullptr};  // never destroyed: threads launch until the end
  return of_this_process(current);
}

// What a child inherits and can be given: the launcher's own are as old as it is.
void tell_surroundings(child::BirthOrder& order) {
  for (unsigned i = 0; i < child::BirthOrder::kLimits; ++i) {
    sys::call(SYS_prlimit64, 0, i, 0, sys::arg(&order.limits[i]));
  }
  sys::call(SYS_sched_getattr, 0, sys::arg(order.schedule), sizeof order.schedule, 0);
  order.processors_size = static_cast<int>(
      sys::call(SYS_sched_getaffinity, 0, sizeof order.processors, sys::arg(order.processors)));
}

}  // namespace

pid_t launcher() { return the_launcher().pid(); }

bool launcher_stays() { return the_launcher().stays(); }

long clone_by_launcher(kernel::CloneArgs& args, void (*entry)(void*), void* argument,
                       const std::vector<int>& fds, Fd& pidfd) {
  std::vector<int> all = fds;  // each once, and none that means "no descriptor"
  std::erase_if(all, [](int fd) { return fd < 0; });
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (all.size() >= child::BirthOrder::kMost) return -E2BIG;
  child::BirthOrder order{};
  for (size_t i = 0; i < all.size(); ++i) order.numbers[i] = all[i];
  order.count = static_cast<int>(all.size()) + 1;
  const bool inside = (args.flags & kernel::kCloneIntoCgroup) != 0;
  all.push_back(inside ? static_cast<int>(args.cgroup) : all.front());
  order.args = args;
  order.entry = entry;
  order.argument = argument;
  tell_surroundings(order);
  uint64_t everything = ~0ULL, before = 0;  // a handler of this thread's may launch as well
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&everything), sys::arg(&before), 8);
  const long pid = the_launcher().clone(order, all, pidfd);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&before), 0, 8);
  if (pid < 0 && pidfd) {  // it ended before it was the container
    reap(pidfd.get());
    pidfd.reset();
  }
  return pid;
}

}  // namespace pyminicon::parent
