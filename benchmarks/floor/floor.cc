// The parent's side of one launch. Built by benchmarks/build.py; see floor.h for the ABI.
#include "floor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

namespace floor_bench {
namespace {

constexpr uint64_t kEverySignal = ~0ull;
constexpr size_t kStack = 32768;

uint64_t clone_flags(const Launch& l) {
  uint64_t f = CLONE_VM | CLONE_CLEAR_SIGHAND;
  // A parent that must write the id maps can't be suspended; it waits for the exec on a futex.
  f |= has(l, kNsUserRanges | kParked) ? CLONE_CHILD_CLEARTID : CLONE_VFORK;
  if (has(l, kNsMount)) f |= CLONE_NEWNS;
  if (has(l, kNsPid)) f |= CLONE_NEWPID;
  if (has(l, kNsUts)) f |= CLONE_NEWUTS;
  if (has(l, kNsIpc)) f |= CLONE_NEWIPC;
  if (has(l, kNsCgroup)) f |= CLONE_NEWCGROUP;
  if (has(l, kNsNet)) f |= CLONE_NEWNET;
  if (in_user_namespace(l)) f |= CLONE_NEWUSER;
  if (has(l, kCgroupV2)) f |= CLONE_INTO_CGROUP;
  if (has(l, kHoldMounts)) f |= CLONE_PIDFD;
  return f;
}

class Cgroup {
 public:
  long make(Launch& l) {
    parent_ = l.job->cgroup_parent;
    static int counter;
    snprintf(name_, sizeof name_, "floor-%d-%d", getpid(), __atomic_add_fetch(&counter, 1, 0));
    if (long r = sys(SYS_mkdirat, parent_, arg(name_), 0755); r < 0) return r;
    made_ = true;
    l.cgroup = int(sys(SYS_openat, parent_, arg(name_), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (l.cgroup < 0 || !has(l, kCgroupV1)) return l.cgroup;
    char limit[24];
    const int n =
        snprintf(limit, sizeof limit, "%llu", static_cast<unsigned long long>(l.job->memory_limit));
    const long fd = sys(SYS_openat, l.cgroup, arg("memory.limit_in_bytes"), O_WRONLY | O_CLOEXEC);
    const long r = fd < 0 ? fd : sys(SYS_write, fd, arg(limit), n);
    if (fd >= 0) sys(SYS_close, fd);
    if (r < 0) return r;
    return l.cgroup_tasks = int(sys(SYS_openat, l.cgroup, arg("tasks"), O_WRONLY | O_CLOEXEC));
  }
  void remove(const Launch& l) {
    if (l.cgroup_tasks >= 0) sys(SYS_close, l.cgroup_tasks);
    if (l.cgroup >= 0) sys(SYS_close, l.cgroup);
    if (made_) sys(SYS_unlinkat, parent_, arg(name_), AT_REMOVEDIR);
  }

 private:
  char name_[32];
  int parent_ = -1;
  bool made_ = false;
};

long write_maps(long pid, const char* map) {
  char path[40];
  for (int gid = 0; gid < 2; ++gid) {
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, gid ? "gid_map" : "uid_map");
    if (long r = write_file(path, map, strlen(map)); r < 0) return r;
  }
  return 0;
}

void map_ids(Launch& l, long pid) {
  if (const long r = write_maps(pid, l.job->id_map); r < 0) {
    l.job->error = int(-r);
    sys(SYS_kill, pid, SIGKILL);
  }
  set_and_wake(l.mapped);
}

void wait_for_exec(Launch& l) {
  for (int t; (t = l.tid) != 0;) sys(SYS_futex, arg(const_cast<int*>(&l.tid)), 0 /* WAIT */, t, 0);
}

// Both pipes until the last writer is gone.
uint64_t drain(int out, int err) {
  static thread_local char buffer[65536];
  pollfd fds[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  uint64_t total = 0;
  for (int left = 2; left;) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
    for (pollfd& p : fds) {
      if (!p.revents) continue;
      const ssize_t n = read(p.fd, buffer, sizeof buffer);
      if (n > 0) {
        total += uint64_t(n);
      } else {
        p.fd = -1;
        --left;
      }
    }
  }
  return total;
}

// What one launch owns, from its first descriptor to its last.
struct Flight {
  Launch l;
  Cgroup cgroup;
  int out[2] = {-1, -1}, err[2] = {-1, -1}, pidfd = -1, mounts = -1;
  long pid = 0;
};

void clone_child(Flight& f, char* stack) {
  clone_args args{};
  args.flags = clone_flags(f.l);
  args.stack = uint64_t(stack);
  args.stack_size = kStack;
  args.pidfd = uint64_t(&f.pidfd);
  args.child_tid = uint64_t(&f.l.tid);
  args.exit_signal = SIGCHLD;
  args.cgroup = uint64_t(f.l.cgroup);
  uint64_t mask = 0;
  sys(SYS_rt_sigprocmask, SIG_SETMASK, arg(&kEverySignal), arg(&mask), 8);
  f.pid = clone_call(&args, child_main, &f.l);
  if (f.pid > 0 && has(f.l, kNsUserRanges)) map_ids(f.l, f.pid);
  if (f.pid > 0 && !(args.flags & CLONE_VFORK) && !has(f.l, kParked)) wait_for_exec(f.l);
  sys(SYS_rt_sigprocmask, SIG_SETMASK, arg(&mask), 0, 8);
}

long prepare(Flight& f) {
  Launch& l = f.l;
  snprintf(l.layer, sizeof l.layer, "%s/proc", l.job->rootfs);
  snprintf(l.etc, sizeof l.etc, "%s/etc", l.job->rootfs);
  snprintf(l.overlay, sizeof l.overlay, "lowerdir=%s,upperdir=u,workdir=w", l.job->rootfs);
  if (has(l, kCapture)) {
    if (pipe2(f.out, O_CLOEXEC) || pipe2(f.err, O_CLOEXEC)) return -errno;
    l.out = f.out[1];
    l.err = f.err[1];
  }
  return has(l, kCgroupV1 | kCgroupV2) ? f.cgroup.make(l) : 0;
}

void shut(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

void start(Flight& f, char* stack) {
  FloorJob* job = f.l.job;
  job->error = job->stamp_count = job->status = 0;
  job->captured = 0;
  job->failed = -1;
  const long ready = prepare(f);
  f.pid = ready;
  if (ready >= 0) clone_child(f, stack);
  shut(f.out[1]);
  shut(f.err[1]);
  if (f.pid < 0) job->error = int(-f.pid);
}

// From the exec to the last undoing; only the mount namespace may outlive it.
void finish(Flight& f) {
  FloorJob* job = f.l.job;
  job->spawned = now();
  if (f.pid > 0) {
    if (has(f.l, kHoldMounts)) f.mounts = ioctl(f.pidfd, _IO(0xFF, 3), 0);  // PIDFD_GET_MNT_NAMESPACE
    if (has(f.l, kCapture)) job->captured = drain(f.out[0], f.err[0]);
    while (waitpid(pid_t(f.pid), &job->status, 0) < 0 && errno == EINTR) {
    }
  }
  shut(f.out[0]);
  shut(f.err[0]);
  shut(f.pidfd);
  f.cgroup.remove(f.l);
  job->end = now();
  shut(f.mounts);
}

}  // namespace
}  // namespace floor_bench

using namespace floor_bench;

int floor_launch(FloorJob* job) {
  alignas(16) static thread_local char stack[kStack];
  job->begin = now();
  Flight f{.l = {.job = job}, .cgroup = {}};
  start(f, stack);
  finish(f);
  return -job->error;
}

struct FloorParked {
  alignas(16) char stack[kStack];
  Flight f;
};

// Leaves *stock null and the error in the job when a step fails.
static void park(FloorJob* job, FloorParked** stock) {
  *stock = new FloorParked{.stack = {}, .f = {.l = {.job = job}, .cgroup = {}}};
  start((*stock)->f, (*stock)->stack);
  if ((*stock)->f.pid > 0) wait_until_set((*stock)->f.l.ready);
  if (job->error) floor_discard(stock);
}

int floor_parked(FloorJob* job, FloorParked** stock) {
  if (!*stock) park(job, stock);
  if (!*stock) return -job->error;
  job->begin = now();
  set_and_wake((*stock)->f.l.go);
  wait_for_exec((*stock)->f.l);
  finish((*stock)->f);
  delete *stock;
  const FloorJob answer = *job;
  park(job, stock);  // an error shows at the next call
  *job = answer;
  return -job->error;
}

void floor_discard(FloorParked** stock) {
  FloorParked* p = *stock;
  if (!p) return;
  if (p->f.pid > 0) sys(SYS_kill, p->f.pid, SIGKILL);
  finish(p->f);
  delete p;
  *stock = nullptr;
}
