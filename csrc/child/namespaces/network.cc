// The network namespace: made by clone, or by a netns helper on another processor meanwhile.
#include "child/namespaces/network.h"

#include <linux/futex.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/mounts/sysctls.h"
#include "child/namespaces/stages.h"

namespace pyminicon::child {
namespace {

// An ioctl on one socket: netlink would be four messages for the same bit.
long bring_up_loopback() {
  const long fd = sys::call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  ifreq request{};
  request.ifr_ifrn.ifrn_name[0] = 'l';
  request.ifr_ifrn.ifrn_name[1] = 'o';
  request.ifr_ifru.ifru_flags = IFF_UP | IFF_RUNNING;
  const long result = sys::call(SYS_ioctl, fd, SIOCSIFFLAGS, sys::arg(&request));
  sys::close(static_cast<int>(fd));
  return result;
}

bool turn(Report& report, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(&report.network, &from, to, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE);
}

// Not FUTEX_PRIVATE: the child may be the helper, in memory of its own.
uint32_t state_of(const Report& report) {
  return __atomic_load_n(&report.network, __ATOMIC_ACQUIRE);
}

void sleep_while(Report& report, NetworkState state) {
  // Bounded: whoever should wake us may have been killed.
  constexpr timespec kPatience{1, 0};
  long slept = 0;
  while (state_of(report) == state && slept != -ETIMEDOUT) {
    // Not FUTEX_PRIVATE: the child may be the helper, in memory of its own.
    slept =
        sys::call(SYS_futex, sys::arg(&report.network), FUTEX_WAIT, state, sys::arg(&kPatience));
  }
}

// To be woken takes longer than what is left to wait for, as a rule.
void spin_while(const Report& report, NetworkState state) {
  constexpr int64_t kMost = 300000;
  for (const int64_t until = sys::now_ns() + kMost;
       state_of(report) == state && sys::now_ns() < until;) {
    sys::call(SYS_sched_yield);  // it may be on this very processor
  }
}

void wake(Report& report) { sys::call(SYS_futex, sys::arg(&report.network), FUTEX_WAKE, 1); }

}  // namespace

void accompany(Report& report) {
  // A core would be a picture of the caller's memory; 1, and not 0, for a pattern that is a pipe.
  const uint64_t no_core[2] = {1, 1};
  if (sys::call(SYS_prlimit64, 0, 4 /* RLIMIT_CORE */, sys::arg(no_core), 0) < 0) {
    uint64_t limit[2] = {2, 2};
    sys::call(SYS_prlimit64, 0, 4, 0, sys::arg(limit));
    if (limit[0] > 1) sys::call(SYS_exit, 0);
  }
  // The launching process may be killed meanwhile, and nobody would end this one.
  sys::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (turn(report, kNetworkOffered, kNetworkBegun)) {
    // The descriptors are shared with the caller: a socket among them could be inherited by what
    // another thread forks, and would keep the namespace.
    long made = sys::call(kernel::kSysCloseRange, 3, ~0U, kernel::kCloseRangeUnshare);
    if (made >= 0) made = sys::unshare(kernel::kCloneNewnet);
    if (made >= 0 && turn(report, kNetworkBegun, kNetworkMade)) {
      wake(report);
      if (report.loopback == kLoopbackWanted && bring_up_loopback() >= 0) {
        report.loopback = kLoopbackUp;
      }
      if (report.settings == kSettingsWanted && write_usual()) report.settings = kSettingsWritten;
      if (report.unpaced == kSettingsWanted && write_unpaced()) report.unpaced = kSettingsWritten;
      sleep_while(report, kNetworkMade);  // it is joined through this process
    }
  }
  for (;;) sys::call(SYS_exit, 0);
}

namespace {

// If the netns helper couldn't make the namespace, or got no processor for it, the child makes it
// itself: a failure is then one of its own stage.
long have_network(Child& child) {
  Report& report = child.report;
  if (report.accompanied == 0) return 0;
  spin_while(report, kNetworkBegun);
  sleep_while(report, kNetworkBegun);
  child.network_joined = state_of(report) == kNetworkMade &&
                         sys::call(SYS_setns, report.network_fd, kernel::kCloneNewnet) >= 0;
  sys::close(report.network_fd);
  if (child.network_joined) {
    if (turn(report, kNetworkMade, kNetworkJoined)) wake(report);
    return 0;
  }
  if (__atomic_exchange_n(&report.network, kNetworkOver, __ATOMIC_ACQ_REL) == kNetworkMade) {
    wake(report);
  }
  const long made = sys::unshare(kernel::kCloneNewnet);
  report.refused = made == -EPERM || made == -EACCES || made == -ENOSYS;
  return made;
}

// Waits while the launching process has pasta serve the network. This comes before /sys is mounted,
// which shows the interfaces that are there then.
long await_way_out(const Child& child) {
  const int line = child.plan.way_out_fd;
  if (line < 0) return 0;
  char byte = 'n';
  long result = sys::write(line, &byte, 1);
  if (result >= 0) result = sys::read(line, &byte, 1);
  sys::close(line);
  return result == 1 ? 0 : -ECANCELED;  // the launching process says why
}

}  // namespace

long enter_network(Child& child) {
  const long there = have_network(child);
  return there < 0 ? there : await_way_out(child);
}

// The netns helper began with the loopback when the namespace was there to be joined, and ends when
// it has brought it up.
long await_loopback(Child& child) {
  Report& report = child.report;
  if (child.plan.loopback == 0) return 0;
  spin_while(report, kNetworkJoined);
  sleep_while(report, kNetworkJoined);
  const bool up = state_of(report) == kNetworkOver && report.loopback == kLoopbackUp;
  return child.network_joined && up ? 0 : bring_up_loopback();
}

}  // namespace pyminicon::child
