#include "parent/process/clone.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/clone.h"
#include "base/plan.h"
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

// A handler that ran in a child would run on the parent's data.
class SignalsHeld {
 public:
  SignalsHeld() {
    const uint64_t all = ~0ULL;
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all), sys::arg(&before_), sizeof all);
  }
  ~SignalsHeld() {
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&before_), 0, sizeof before_);
  }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  uint64_t before_ = 0;
};

bool lend(const ChildStack& stack, kernel::CloneArgs& args) {
  args.flags |= kernel::kCloneVm;
  args.stack = stack.base();
  args.stack_size = kStackSize;
  return stack.base() != 0;
}

long clone_sharing(const ChildStack& stack, kernel::CloneArgs& args, void (*entry)(void*),
                   void* argument) {
  if (!lend(stack, args)) return -ENOMEM;
  const SignalsHeld held;
  return clone_onto_stack(&args, entry, argument);
}

// Until the kernel has written 0 there (CLONE_CHILD_CLEARTID), at the end of whoever uses our
// memory. It does not at the end of one that dumps core: `pidfd` tells of that.
void await_clear(const uint32_t& word, int pidfd) {
  constexpr timespec kLookAgain{0, 20000000};
  for (uint32_t seen = 0; (seen = __atomic_load_n(&word, __ATOMIC_ACQUIRE)) != 0;) {
    sys::call(SYS_futex, sys::arg(&word), FUTEX_WAIT, seen, sys::arg(&kLookAgain));
    if (pidfd >= 0 && reap(pidfd, WNOHANG | WNOWAIT) != 0) return;
  }
}

struct Through {
  kernel::CloneArgs* args;
  void (*entry)(void*);
  void* argument;
  long result = -EAGAIN;
};

// A thread that the C library doesn't know: raw system calls only.
void clone_and_end(void* argument) {
  auto& through = *static_cast<Through*>(argument);
  through.result = clone_onto_stack(through.args, through.entry, through.argument);
  for (;;) sys::call(SYS_exit, 0);
}

// It has let go of our memory, and after that of its children: seen by its number, which it gives
// back last.
void await_end_of_thread(long thread) {
  constexpr timespec kMoment{0, 50000};
  for (int tried = 0; sys::call(SYS_tgkill, getpid(), thread, 0) == 0; ++tried) {
    constexpr int kBusy = 20;
    if (tried < kBusy) {
      sys::call(SYS_sched_yield);
    } else {
      sys::call(SYS_nanosleep, sys::arg(&kMoment), 0);
    }
  }
}

void clone_in_thread(Through& through) {
  thread_local const ChildStack stack;
  uint32_t runs = 1;
  kernel::CloneArgs args{};
  args.flags = kernel::kCloneFs | kernel::kCloneFiles | CLONE_SIGHAND | CLONE_THREAD |
               CLONE_SYSVSEM | kernel::kCloneChildCleartid;
  args.child_tid = reinterpret_cast<uint64_t>(&runs);
  if (!lend(stack, args)) return;
  const SignalsHeld held;
  const long thread = clone_onto_stack(&args, clone_and_end, &through);
  if (thread < 0) return;
  await_clear(runs, -1);
  await_end_of_thread(thread);
}

void settle(uint32_t& parent) {
  __atomic_store_n(&parent, kParentStays, __ATOMIC_RELEASE);
  sys::call(SYS_futex, sys::arg(&parent), FUTEX_WAKE, 1);
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

bool in_main_thread() { return sys::call(SYS_gettid) == getpid(); }

long clone_through_thread(kernel::CloneArgs& args, void (*entry)(void*), void* argument) {
  Through through{&args, entry, argument};
  clone_in_thread(through);
  return through.result;
}

long clone_for_main_thread(kernel::CloneArgs& args, void (*entry)(void*), void* argument,
                           uint32_t& parent) {
  thread_local const ChildStack stack;
  const SignalsHeld held;  // a handler that launches would find the stack taken
  uint32_t runs = 1;
  kernel::CloneArgs own = args;
  own.flags |= kernel::kCloneClearSighand | kernel::kCloneChildCleartid;
  own.child_tid = reinterpret_cast<uint64_t>(&runs);
  parent = kParentUnsettled;
  Through through{&own, entry, argument};
  if (lend(stack, own)) clone_in_thread(through);
  if (through.result == -EAGAIN) {  // the thread may have been the last one to be had
    parent = kParentLeaves;
    return clone_and_wait(args, entry, argument);
  }
  if (through.result < 0) return through.result;
  settle(parent);
  await_clear(runs, *reinterpret_cast<const int*>(args.pidfd));
  return through.result;
}

long clone_beside(kernel::CloneArgs& args, void (*entry)(void*), void* argument) {
  thread_local const ChildStack stack;
  return clone_sharing(stack, args, entry, argument);
}

}  // namespace pyminicon::parent
