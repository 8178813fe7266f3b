#include "parent/launch/netns_helper.h"

#include <sched.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "child/namespaces/network.h"
#include "parent/process/clone.h"

namespace pyminicon::parent {
namespace {

// Launches at this moment, by the processes they are in: after a fork the other threads' are none.
std::atomic<int> going{0};
std::atomic<uint64_t> going_in{0};

std::atomic<bool> left_off{false};

// A signal's handler, run while a launch of this very thread waits, may launch as well: the stack
// is taken then.
constexpr uint64_t kFree = UINT64_MAX;
thread_local uint64_t stack_taken_in = kFree;  // by the generation: a fork in there frees it

void count_launch() {
  if (going_in.exchange(fork_generation()) != fork_generation()) going = 0;
  going.fetch_add(1, std::memory_order_relaxed);
}

void enter_helper(void* report) { child::accompany(*static_cast<Report*>(report)); }

// With as many launches as processors each has one to itself, and a netns helper is only work.
bool has_spare_processor() {
  cpu_set_t mine;
  if (sched_getaffinity(0, sizeof mine, &mine) < 0) return false;
  return CPU_COUNT(&mine) >= 2 * going.load(std::memory_order_relaxed);
}

}  // namespace

NetnsHelper::NetnsHelper(const PlanSpec& spec, bool served, Report& report)
    : generation_(fork_generation()) {
  count_launch();
  if (stack_taken_in == generation_ || left_off.load(std::memory_order_relaxed)) return;
  constexpr uint64_t kNew = kernel::kCloneNewnet;
  // What owns a network namespace is the user namespace it was made in.
  if ((spec.namespaces & (kNew | kernel::kCloneNewuser)) != kNew || !has_spare_processor()) return;
  kernel::CloneArgs args{};
  int pidfd = -1;
  args.flags =
      kernel::kClonePidfd | kernel::kCloneFs | kernel::kCloneFiles | kernel::kCloneChildCleartid;
  args.child_tid = reinterpret_cast<uint64_t>(&report.network);
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  report.network = kNetworkOffered;
  report.loopback = spec.loopback ? kLoopbackWanted : kLoopbackDown;
  report.settings = spec.usual_settings ? kSettingsWanted : kSettingsLeft;
  report.unpaced = served && spec.pasta.empty() ? kSettingsWanted : kSettingsLeft;
  if (clone_beside(args, enter_helper, &report) < 0) return;
  stack_taken_in = generation_;
  pidfd_ = Fd(pidfd);
  report.network_fd = pidfd_.get();
  report.accompanied = 1;
}

NetnsHelper::~NetnsHelper() {
  if (generation_ == fork_generation()) going.fetch_sub(1, std::memory_order_relaxed);
  dismiss();
}

void NetnsHelper::dismiss() {
  if (!pidfd_ || generation_ != fork_generation()) return;
  // As a rule it has ended; it may be slow, or stopped, and nobody needs it any more.
  syscall(kernel::kSysPidfdSendSignal, pidfd_.get(), SIGKILL, nullptr, 0);
  reap(pidfd_.get());
  stack_taken_in = kFree;
  pidfd_.reset();
}

void leave_netns_helpers_off() { left_off = true; }

}  // namespace pyminicon::parent
