#include "parent/process/clone.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cerrno>

#include "base/clone.h"
#include "base/syscall.h"

namespace pyminicon::parent {
namespace {

constexpr size_t kStackSize = 128 << 10, kGuard = 4096;

// One stack a thread, kept: its pages are touched already at the next launch. Never used by two
// children, because the thread sleeps while one runs.
class ChildStack {
 public:
  ChildStack() {
    void* memory = mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return;
    mprotect(memory, kGuard, PROT_NONE);
    base_ = memory;
  }
  ~ChildStack() {
    if (base_ != nullptr) munmap(base_, kStackSize);
  }
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;
  uint64_t base() const { return reinterpret_cast<uint64_t>(base_); }

 private:
  void* base_ = nullptr;
};

long clone_sharing(const ChildStack& stack, kernel::CloneArgs& args, void (*entry)(void*),
                   void* argument) {
  if (stack.base() == 0) return -ENOMEM;
  args.flags |= kernel::kCloneVm;
  args.stack = stack.base();
  args.stack_size = kStackSize;
  uint64_t all = ~0ULL, before = 0;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all), sys::arg(&before), sizeof all);
  const long pid = clone_onto_stack(&args, entry, argument);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&before), 0, sizeof before);
  return pid;
}

}  // namespace

pid_t reap(int pidfd, int options) {
  constexpr auto kPidfd = static_cast<idtype_t>(3);  // P_PIDFD, Linux 5.4
  siginfo_t info{};
  while (waitid(kPidfd, static_cast<id_t>(pidfd), &info, WEXITED | __WALL | options) < 0) {
    if (errno != EINTR) return -1;
  }
  return info.si_pid;
}

long clone_and_wait(kernel::CloneArgs& args, void (*entry)(void*), void* argument) {
  thread_local const ChildStack stack;
  args.flags |= kernel::kCloneVfork | kernel::kCloneClearSighand;
  return clone_sharing(stack, args, entry, argument);
}

long clone_beside(kernel::CloneArgs& args, void (*entry)(void*), void* argument) {
  thread_local const ChildStack stack;
  return clone_sharing(stack, args, entry, argument);
}

}  // namespace pyminicon::parent
