// clone3: its newer flags, the cgroup it can be born in, what is left of an exit status, the time
// namespace.
#include <sys/ioctl.h>

#include "probe.h"

static pid_t clone3(__u64 flags, int cgroup, int* pidfd) {
  struct clone_arguments args = {.flags = flags, .exit_signal = SIGCHLD};
  if (flags & (1ull << 34)) args.exit_signal = 0;
  if (pidfd) {
    args.flags |= CLONE_PIDFD;
    args.pidfd = (__u64)(uintptr_t)pidfd;
  }
  args.cgroup = (__u64)cgroup;
  return (pid_t)syscall(NR_clone3, &args, sizeof args);
}

static void flag(const char* name, __u64 bits) {
  fflush(stdout);
  int pidfd = -1;
  struct clone_arguments args = {.flags = bits | CLONE_PIDFD, .pidfd = (__u64)(uintptr_t)&pidfd};
  // A child that reaps itself can't send a signal about it as well.
  args.exit_signal = bits & (1ull << 34) ? 0 : SIGCHLD;
  long pid = raw2(NR_clone3, &args, sizeof args);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, __WALL);
  errno = pid < 0 ? (int)-pid : 0;
  say(name, "%s", verdict(pid < 0 ? -1 : 0));
}

static void empty_mntns(void) {
  fflush(stdout);
  pid_t pid = clone3(1ull << 37, 0, NULL);
  if (pid < 0) {
    say("clone3 CLONE_EMPTY_MNTNS (1<<37)", "%s", verdict(pid));
    return;
  }
  if (pid == 0) {
    int fd = detached("proc", NULL);
    long made = attach(fd, "/");
    say("clone3 CLONE_EMPTY_MNTNS (1<<37)", "ok; fsopen(proc) inside %s, move_mount onto / %s",
        verdict(fd), verdict(made));
    fflush(stdout);
    _exit(0);
  }
  waitpid(pid, NULL, 0);
}

static void exit_after_reaping(void) {
  struct {
    __u64 mask, cgroupid;
    __u32 ids[11];
    __s32 exit_code;
    __u32 more[6];
  } info = {.mask = 1u << 3};
  int pidfd = -1;
  pid_t pid = clone3(0, 0, &pidfd);
  if (pid == 0) _exit(42);
  waitpid(pid, NULL, 0);
  // _IOWR(0xFF, 11, struct pidfd_info): the size is part of the number; 64 is the first published
  // one.
  long got = ioctl(pidfd, _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, 64), &info);
  if (got < 0)
    say("PIDFD_GET_INFO after the status was taken", "%s", verdict(got));
  else
    say("PIDFD_GET_INFO after the status was taken", "ok, mask %#llx, exit_code %#x", info.mask,
        info.exit_code);
}

static void ask_boot_time(int fd) {
  dup2(fd, 1);
  // uptime(1)'s own file counts in the reader's time namespace.
  execl("/bin/sh", "sh", "-c",
        "read up rest </proc/uptime; [ ${up%.*} -gt 1000000 ] && echo moved || echo unmoved", NULL);
  _exit(1);
}

// `forks`: the process that unshared forks, and the child execs; else it execs itself, as a launch
// would.
static void boot_time_after(int forks, char* answer, size_t size) {
  int ends[2];
  if (pipe(ends)) _exit(1);
  if (fork() == 0) {
    if (unshare(CLONE_NEWTIME)) _exit(1);
    write_file("/proc/self/timens_offsets", "boottime 1000000 0\n");
    if (!forks || fork() == 0) ask_boot_time(ends[1]);
    wait(NULL);
    _exit(0);
  }
  close(ends[1]);
  ssize_t got = read(ends[0], answer, size - 1);
  answer[got > 0 ? got - 1 : 0] = 0;
  wait(NULL);
}

static void time_namespace(void) {
  char forked[16], execed[16];
  if (getuid()) become_userns_root(0);
  boot_time_after(1, forked, sizeof forked);
  boot_time_after(0, execed, sizeof execed);
  say("time namespace: boot time after unshare+fork+exec", "%s", *forked ? forked : "(no answer)");
  say("time namespace: boot time after unshare+exec", "%s", *execed ? execed : "(no answer)");
}

static void into_cgroup(void) {
  const char* parent = getenv("PROBE_CGROUP");
  char where[512], text[256] = "";
  snprintf(where, sizeof where, "%s/probe-clone", parent ? parent : "/sys/fs/cgroup");
  mkdir(where, 0755);
  int cgroup = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (cgroup < 0) {
    say("clone3 CLONE_INTO_CGROUP|CLONE_NEWCGROUP", "no cgroup to try it in: %s", verdict(-1));
    return;
  }
  // An ordinary user needs a user namespace in the same call to have a cgroup namespace.
  __u64 user = getuid() ? CLONE_NEWUSER : 0;
  struct clone_arguments args = {
      .flags = (1ull << 33) | CLONE_NEWCGROUP | CLONE_VM | CLONE_VFORK | user,
      .exit_signal = SIGCHLD,
      .cgroup = (__u64)cgroup};
  pid_t pid = (pid_t)raw2(NR_clone3, &args, sizeof args);
  if (pid == 0) {
    read_file("/proc/self/cgroup", text, sizeof text);
    _exit(0);
  }
  if (pid < 0) errno = -pid;
  text[strcspn(text, "\n")] = 0;
  say("clone3 INTO_CGROUP|NEWCGROUP|VM|VFORK", "%s, /proc/self/cgroup inside: %s", verdict(pid),
      pid > 0 ? text : "-");
  if (pid > 0) waitpid(pid, NULL, 0);
  rmdir(where);
}

void probe_clone(void) {
  flag("clone3 CLONE_PIDFD", 0);
  flag("clone3 CLONE_CLEAR_SIGHAND (1<<32)", 1ull << 32);
  flag("clone3 CLONE_AUTOREAP (1<<34)", 1ull << 34);
  flag("clone3 CLONE_NNP (1<<35)", 1ull << 35);
  flag("clone3 AUTOREAP|NNP|PIDFD_AUTOKILL (1<<36)", 7ull << 34);
  flag("clone3 AUTOREAP|PIDFD_AUTOKILL without NNP", 5ull << 34);
  flag("clone3 PIDFD_AUTOKILL without AUTOREAP", 6ull << 34);
  flag("clone3 AUTOREAP|NNP|PIDFD_AUTOKILL|CLONE_VM|CLONE_VFORK",
       (7ull << 34) | CLONE_VM | CLONE_VFORK);
  empty_mntns();
  exit_after_reaping();
  into_cgroup();
  apart(time_namespace);
}
