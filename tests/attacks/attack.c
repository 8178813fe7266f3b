// What a hostile program does, one subcommand each. Built static by the tests, so that it runs in any root.
// Prints results as "name value" or "return errno"; the tests judge.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char* what, long value) {
  printf("%s %ld %d\n", what, value, value == -1 ? errno : 0);
  fflush(stdout);
}

// s:TEXT is a string, b:N a zeroed buffer, d:HEX bytes, anything else a number.
static long argument(const char* text) {
  if (!strncmp(text, "s:", 2)) return (long)(text + 2);
  if (!strncmp(text, "b:", 2)) return (long)calloc(1, strtoul(text + 2, 0, 0) + 1);
  if (!strncmp(text, "d:", 2)) {
    size_t n = strlen(text + 2) / 2;
    unsigned char* data = calloc(1, n + 256);
    for (size_t i = 0; i < n; i++) sscanf(text + 2 + 2 * i, "%2hhx", data + i);
    return (long)data;
  }
  return text[0] == '-' ? strtol(text, 0, 0) : (long)strtoull(text, 0, 0);
}

static int system_call(int argc, char** argv, unsigned long bit) {
  long a[6] = {0};
  for (int i = 0; i < 6 && i + 1 < argc; i++) a[i] = argument(argv[i + 1]);
  errno = 0;
  say("call", syscall(strtoul(argv[0], 0, 0) | bit, a[0], a[1], a[2], a[3], a[4], a[5]));
  return 0;
}

#if defined(__x86_64__)
static int old_entry(int argc, char** argv) {
  long result, a = argc > 1 ? argument(argv[1]) : 0;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(strtol(argv[0], 0, 0)), "b"(a), "c"(0L), "d"(0L)
                   : "memory", "r8", "r9", "r10", "r11");
  printf("call %ld %ld\n", result < 0 ? -1 : result, result < 0 ? -result : 0);
  return 0;
}
#endif

// Everything that looks into or takes from another process.
static int peek(pid_t pid) {
  char path[64], data[16];
  struct iovec here = {data, sizeof data};
  unsigned long at = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE* maps = fopen(path, "r");
  say("maps", maps && fscanf(maps, "%lx", &at) == 1 ? 0 : -1);
  struct iovec there = {(void*)(at ? at : 0x400000), sizeof data};
  say("readv", process_vm_readv(pid, &here, 1, &there, 1, 0));
  say("writev", process_vm_writev(pid, &here, 1, &there, 1, 0));
  snprintf(path, sizeof path, "/proc/%d/mem", pid);
  say("mem", open(path, O_RDONLY) < 0 ? -1 : 0);
  say("mem-write", open(path, O_RDWR) < 0 ? -1 : 0);
  snprintf(path, sizeof path, "/proc/%d/environ", pid);
  int env = open(path, O_RDONLY);
  say("environ", env < 0 || read(env, data, 1) < 0 ? -1 : 0);
  snprintf(path, sizeof path, "/proc/%d/root", pid);
  say("root", readlink(path, data, sizeof data) < 0 ? -1 : 0);
  int pidfd = syscall(SYS_pidfd_open, pid, 0);
  say("pidfd", pidfd < 0 ? -1 : 0);
  for (int fd = 0; fd < 16; fd++) {
    long got = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    if (got >= 0 || errno != EBADF || fd == 15) {
      say("getfd", got < 0 ? -1 : 0);
      break;
    }
  }
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  strcat(path, "/0");
  say("fds", readlink(path, data, sizeof data) < 0 ? -1 : 0);
  long attached = ptrace(PTRACE_SEIZE, pid, 0, 0);
  say("ptrace", attached);
  if (attached == 0) ptrace(PTRACE_DETACH, pid, 0, 0);
  return 0;
}

// What a debugger does with a program of its own.
static int debug(void) {
  pid_t child = fork();
  int status = 0;
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (;;) pause();
  }
  say("stopped", waitpid(child, &status, 0) == child && WIFSTOPPED(status) ? 0 : -1);
  errno = 0;
  say("peeked", ptrace(PTRACE_PEEKDATA, child, &status, 0) == -1 && errno ? -1 : 0);
  say("detached", ptrace(PTRACE_DETACH, child, 0, 0));
  peek(child);
  kill(child, SIGKILL);
  return 0;
}

// Takes pid 1's descriptors, and through each that is a pidfd the descriptors of whoever that is.
static int steal(void) {
  int first = syscall(SYS_pidfd_open, 1, 0), taken = 0, beyond = 0, signalled = 0;
  for (int fd = 0; fd < 64; fd++) {
    int got = syscall(SYS_pidfd_getfd, first, fd, 0);
    if (got < 0) continue;
    taken++;
    signalled += syscall(SYS_pidfd_send_signal, got, 0, 0, 0) == 0;
    for (int theirs = 0; theirs < 64; theirs++) beyond += syscall(SYS_pidfd_getfd, got, theirs, 0) >= 0;
  }
  printf("taken %d\nbeyond %d\nsignalled %d\n", taken, beyond, signalled);
  return 0;
}

static int overwrite(void) {
  char path[64];
  int seen = open("/proc/1/exe", O_RDONLY);
  say("open-read", seen < 0 ? -1 : 0);
  say("open-write", open("/proc/1/exe", O_RDWR | O_APPEND));
  snprintf(path, sizeof path, "/proc/self/fd/%d", seen);
  say("reopened", open(path, O_WRONLY));
  kill(1, SIGSTOP);
  say("write-memory-file", ftruncate(seen, 0));
  return 0;
}

// The classic: keep a directory, chroot below it, walk up.
static int chroot_escape(const char* wanted) {
  struct stat info;
  mkdir("/tmp/.cage", 0700);
  int kept = open("/", O_RDONLY | O_DIRECTORY);
  long caged = chroot("/tmp/.cage");
  say("chroot", caged);
  fchdir(kept);
  for (int i = 0; i < 64; i++) chdir("..");
  chroot(".");
  say("found", stat(wanted, &info));
  int fd = open("/", O_PATH | O_DIRECTORY);
  for (int i = 0; i < 64; i++) {
    int up = openat(fd, "..", O_PATH | O_DIRECTORY);
    if (up >= 0) fd = up;
  }
  say("above", fstatat(fd, wanted + 1, &info, 0));
  return 0;
}

static int terminal(void) {
  say("own", ioctl(0, TIOCSCTTY, 1));
  say("push", ioctl(0, TIOCSTI, "x"));
  say("push-high", syscall(SYS_ioctl, 0, (1UL << 32) | TIOCSTI, "x"));
  char word = 2;
  say("linux", ioctl(0, TIOCLINUX, &word));
  return 0;
}

static void swap(const char* a, const char* b) {  // until killed
  for (;;) renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

static int forks(int most) {  // processes that stay, until the kernel refuses
  int made = 0;
  for (; made < most; made++) {
    pid_t child = fork();
    if (child == 0) {
      pause();
      _exit(0);
    }
    if (child < 0) break;
  }
  printf("made %d\n", made);
  return 0;
}

static int memory(const char* kind, long megabytes) {
  for (long i = 0; i < megabytes; i++) {
    int fd = -1;
    char* place;
    if (!strcmp(kind, "memfd")) {
      fd = memfd_create("bomb", 0);
      if (fd < 0 || ftruncate(fd, 1 << 20)) return 1;
    }
    place = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    if (place == MAP_FAILED) return 1;
    memset(place, 1, 1 << 20);
    if (!strcmp(kind, "mlock") && mlock(place, 1 << 20)) return 1;
  }
  puts("survived");
  return 0;
}

static int pipes(int most) {  // kernel memory: pipe buffers
  static char data[65536];
  for (int i = 0; i < most; i++) {
    int pair[2];
    if (pipe2(pair, O_NONBLOCK)) return printf("pipes %d %d\n", i, errno), 0;
    while (write(pair[1], data, sizeof data) > 0) {}
  }
  puts("survived");
  return 0;
}

// Holds a secret where everybody of its uid may read it, and tells the address.
static int hold(void) {
  char* secret = strdup("the-launchers-secret");
  prctl(PR_SET_DUMPABLE, 1);
  printf("%d %p\n", getpid(), (void*)secret);
  fflush(stdout);
  pause();
  return 0;
}

static int look_at(pid_t pid, unsigned long at, int* helper) {
  char data[20] = "", path[64], exe[128];
  struct iovec here = {data, sizeof data}, there = {(void*)at, sizeof data};
  int hit = process_vm_readv(pid, &here, 1, &there, 1, 0) == sizeof data && !memcmp(data, "the-launchers-secret", 20);
  snprintf(path, sizeof path, "/proc/%d/mem", pid);
  int fd = open(path, O_RDONLY);
  if (fd >= 0) {
    hit |= pread(fd, data, sizeof data, at) == sizeof data && !memcmp(data, "the-launchers-secret", 20);
    close(fd);
  }
  snprintf(path, sizeof path, "/proc/%d/exe", pid);
  ssize_t n = readlink(path, exe, sizeof exe - 1);
  if (n > 0) {
    exe[n] = 0;
    if (strstr(exe, "memfd:")) ++*helper;
  }
  return hit;
}

// As uid, until stdin ends: read `at` in the launcher and in every process that appears.
static int hunt(uid_t uid, pid_t launcher, unsigned long at) {
  int hits = 0, helpers = 0;
  long looks = 0;
  if (uid && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid))) return 1;
  prctl(PR_SET_DUMPABLE, 1);
  fcntl(0, F_SETFL, O_NONBLOCK);
  char end;
  puts("hunting");
  fflush(stdout);
  int load = open("/proc/loadavg", O_RDONLY);
  do {
    char text[128] = "";
    pread(load, text, sizeof text - 1, 0);
    int last = 0, running, total;
    sscanf(text, "%*f %*f %*f %d/%d %d", &running, &total, &last);
    hits += look_at(launcher, at, &helpers);
    for (int pid = last - 2; pid <= last + 2; pid++) hits += look_at(pid, at, &helpers);
    looks += 6;
  } while (read(0, &end, 1) < 0);
  printf("hits %d\nhelpers %d\nlooks %ld\n", hits, helpers, looks);
  return 0;
}

static int high_bits(void) {
  unsigned long high = 1UL << 32;
  say("socket-alg", syscall(SYS_socket, 38, SOCK_SEQPACKET, 0));
  say("socket-alg-high", syscall(SYS_socket, high | 38, SOCK_SEQPACKET, 0));
  say("socket-vsock", syscall(SYS_socket, 40, 1, 0));
  say("socket-vsock-high", syscall(SYS_socket, high | 40, 1, 0));
  say("personality-high", syscall(SYS_personality, high | 0x0400000));
  long child = syscall(SYS_clone, high | 0x10000000 | SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  say("clone-user-high", child);
  return 0;
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "sys")) return system_call(argc - 2, argv + 2, 0);
  if (!strcmp(what, "x32")) return system_call(argc - 2, argv + 2, 0x40000000);
#if defined(__x86_64__)
  if (!strcmp(what, "int80")) return old_entry(argc - 2, argv + 2);
#endif
  if (!strcmp(what, "peek")) return peek(atoi(argv[2]));
  if (!strcmp(what, "debug")) return debug();
  if (!strcmp(what, "steal")) return steal();
  if (!strcmp(what, "overwrite")) return overwrite();
  if (!strcmp(what, "chroot")) return chroot_escape(argv[2]);
  if (!strcmp(what, "terminal")) return terminal();
  if (!strcmp(what, "swap")) swap(argv[2], argv[3]);
  if (!strcmp(what, "forks")) return forks(atoi(argv[2]));
  if (!strcmp(what, "memory")) return memory(argv[2], atol(argv[3]));
  if (!strcmp(what, "pipes")) return pipes(atoi(argv[2]));
  if (!strcmp(what, "hold")) return hold();
  if (!strcmp(what, "hunt")) return hunt(atoi(argv[2]), atoi(argv[3]), strtoul(argv[4], 0, 0));
  if (!strcmp(what, "high")) return high_bits();
  return 2;
}
