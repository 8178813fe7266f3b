// The child's other steps, and the order of a container's birth.
#pragma once

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "mounts.h"

namespace floor_bench {

struct RawAction {
  void* handler;
  unsigned long flags;
  void* restorer;
  uint64_t mask;
};

inline long do_hygiene(Launch&) {
  const rlimit none{0, 0};
  sys(SYS_prlimit64, 0, RLIMIT_CORE, arg(&none));
  sys(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  const RawAction standard{};  // what Python ignores stays ignored over exec
  sys(SYS_rt_sigaction, SIGPIPE, arg(&standard), 0, 8);
  sys(SYS_rt_sigaction, SIGXFSZ, arg(&standard), 0, 8);
  sys(SYS_umask, 022);
  const long r = sys(SYS_setsid);
  return r < 0 ? r : 0;
}

inline long do_user_single(Launch&) {
  long r = write_file("/proc/self/uid_map", "0 0 1", 5);
  if (r >= 0) r = write_file("/proc/self/setgroups", "deny", 4);
  return r < 0 ? r : write_file("/proc/self/gid_map", "0 0 1", 5);
}

inline void wait_until_set(volatile int& word) {
  while (!word) sys(SYS_futex, arg(const_cast<int*>(&word)), 128 /* WAIT|PRIVATE */, 0, 0);
}
inline void set_and_wake(volatile int& word) {
  word = 1;
  sys(SYS_futex, arg(const_cast<int*>(&word)), 129 /* WAKE|PRIVATE */, 1);
}

inline long do_user_ranges(Launch& l) {
  wait_until_set(l.mapped);
  const long r = sys(SYS_setresgid, 0, 0, 0);
  return r < 0 ? r : sys(SYS_setresuid, 0, 0, 0);
}

inline long do_join_cgroup(Launch& l) { return sys(SYS_write, l.cgroup_tasks, arg("0"), 1); }
inline long do_stock_net(Launch& l) { return sys(SYS_setns, l.job->netns, CLONE_NEWNET); }
inline long do_hostname(Launch&) { return sys(SYS_sethostname, arg("box"), 3); }
inline long do_time(Launch&) { return sys(SYS_unshare, CLONE_NEWTIME); }

inline long do_loopback(Launch&) {
  const long fd = sys(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  struct {
    char name[16];
    short flags;
    char pad[22];
  } request = {{'l', 'o'}, IFF_UP, {}};
  const long r = sys(SYS_ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, arg(&request));
  sys(SYS_close, fd);
  return r;
}

inline long do_caps(Launch&) {
  // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW
  // SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP
  constexpr uint64_t kKeep = 0xa80425fb;
  for (int c = 0; c <= 40; ++c)
    if (!(kKeep >> c & 1)) sys(SYS_prctl, PR_CAPBSET_DROP, c, 0, 0, 0);
  const __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct data[2] = {{uint32_t(kKeep), uint32_t(kKeep), 0}, {0, 0, 0}};
  return sys(SYS_capset, arg(&head), arg(data));
}

inline long do_seccomp(Launch& l) {
  const long r = sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const sock_fprog program{static_cast<unsigned short>(l.job->filter_length),
                           static_cast<sock_filter*>(const_cast<void*>(l.job->filter))};
  return r < 0 ? r : sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, arg(&program));
}

struct Step {
  uint64_t when;
  long (*run)(Launch&);
};

constexpr Step kSteps[] = {
    {kHygiene, do_hygiene},
    {kNsUserSingle, do_user_single},
    {kNsUserRanges, do_user_ranges},
    {kCgroupV1, do_join_cgroup},
    {kStockNet, do_stock_net},
    {kLoopback, do_loopback},
    {kHostname, do_hostname},
    {kPrivate, do_private},
    {kRootBind, do_root_bind},
    {kRootOverlay, do_root_overlay},
    {kProc, do_proc},
    {kSysfs, do_sysfs},
    {kDev, do_dev},
    {kDevpts, do_devpts},
    {kShm, do_shm},
    {kMqueue, do_mqueue},
    {kMasks, do_masks},
    {kEtc, do_etc},
    {kPivot, do_pivot},
    {kNsTime, do_time},
    {kCaps, do_caps},
    {kSeccomp, do_seccomp},
};

constexpr int kRunning = -1, kClosed = 63, kExec = 64;

inline void stamp(FloorJob* job, int step) {
  if (!job->stamped || job->stamp_count >= 32) return;
  job->stamp_step[job->stamp_count] = step;
  job->stamps[job->stamp_count++] = now();
}

inline int child_main(void* data) {
  Launch& l = *static_cast<Launch*>(data);
  FloorJob* job = l.job;
  stamp(job, kRunning);
  if (l.out >= 0) {
    sys(SYS_dup3, l.out, 1, 0);
    sys(SYS_dup3, l.err, 2, 0);
  }
  for (const Step& s : kSteps) {
    if (!(job->steps & s.when)) continue;
    job->failed = __builtin_ctzll(s.when);
    if (const long r = s.run(l); r < 0) {
      job->error = int(-r);
      set_and_wake(l.ready);
      return 125;
    }
    stamp(job, job->failed);
  }
  if (has(l, kHygiene)) {
    sys(SYS_close_range, 3, ~0u, 0);
    const uint64_t none = 0;
    sys(SYS_rt_sigprocmask, SIG_SETMASK, arg(&none), 0, 8);
  }
  if (has(l, kParked)) {
    set_and_wake(l.ready);
    wait_until_set(l.go);
  }
  stamp(job, kClosed);
  job->failed = kExec;
  static const char* const env[] = {"PATH=/usr/bin:/bin", nullptr};
  job->error = int(-sys(SYS_execve, arg(job->program), arg(job->argv), arg(env)));
  return 127;
}

}  // namespace floor_bench
