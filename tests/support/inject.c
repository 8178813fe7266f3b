// Makes the Nth system call of a launch's child fail, or kills the child there.
//
//   inject TID        follows the children of thread TID of the launching process, not the process itself
//
// On stdin, a line "N ERRNO" arms (ERRNO 0: SIGKILL instead) and is answered by "armed"; a line "done", after
// the launch, by "NAME NUMBER COUNT": the system call that was hit (-1: there was none) and how many there were.
// A child is followed until it execs the program (execve); the launcher's own helper starts by execveat.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 64
static struct Tracee {
  pid_t pid;
  long number;  // of the system call it is in
  int faking;
  int netns_helper;  // the process that makes the network namespace: it begins with prlimit64, no other does
} tracees[MOST];

static long target, count, fired;
static int error_number, fired_at_netns_helper;

static struct Tracee* find(pid_t pid) {
  struct Tracee* free_slot = NULL;
  for (int i = 0; i < MOST; ++i) {
    if (tracees[i].pid == pid) return &tracees[i];
    if (tracees[i].pid == 0 && free_slot == NULL) free_slot = &tracees[i];
  }
  if (free_slot == NULL) abort();
  *free_slot = (struct Tracee){pid, -1, 0, 0};
  return free_slot;
}

#if defined(__x86_64__)
static void skip_call(pid_t pid) {
  struct user_regs_struct regs;
  ptrace(PTRACE_GETREGS, pid, 0, &regs);
  regs.orig_rax = -1;
  ptrace(PTRACE_SETREGS, pid, 0, &regs);
}
static void set_result(pid_t pid, long value) {
  struct user_regs_struct regs;
  ptrace(PTRACE_GETREGS, pid, 0, &regs);
  regs.rax = (unsigned long)value;
  ptrace(PTRACE_SETREGS, pid, 0, &regs);
}
#else
static void skip_call(pid_t pid) {
  int none = -1;
  struct iovec io = {&none, sizeof none};
  ptrace(PTRACE_SETREGSET, pid, 0x404 /* NT_ARM_SYSTEM_CALL */, &io);
}
static void set_result(pid_t pid, long value) {
  struct user_regs_struct regs;
  struct iovec io = {&regs, sizeof regs};
  ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &io);
  regs.regs[0] = (unsigned long)value;
  ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &io);
}
#endif

static void at_call(struct Tracee* child) {
  struct __ptrace_syscall_info info;
  if (ptrace(PTRACE_GET_SYSCALL_INFO, child->pid, sizeof info, &info) < 0) return;
  if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
    if (child->number == -1) child->netns_helper = info.entry.nr == SYS_prlimit64;
    child->number = (long)info.entry.nr;
    if (++count != target) return;
    fired = child->number;
    fired_at_netns_helper = child->netns_helper;
    if (error_number == 0) {
      kill(child->pid, SIGKILL);
      return;
    }
    child->faking = 1;
    skip_call(child->pid);
  } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && child->faking) {
    child->faking = 0;
    set_result(child->pid, -error_number);
  }
}

// A thread of the launching program's own, which plans or waits for it: not what is launched.
static int is_thread_of(pid_t pid, pid_t launcher) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d", launcher, pid);
  return access(path, F_OK) == 0;
}

static void on_stop(pid_t pid, int status, pid_t launcher) {
  const int event = status >> 16, number = WSTOPSIG(status);
  const int resume = pid == launcher ? PTRACE_CONT : PTRACE_SYSCALL;
  if (pid != launcher && is_thread_of(pid, launcher)) {
    ptrace(PTRACE_DETACH, pid, 0, 0);
    return;
  }
  struct Tracee* child = pid == launcher ? NULL : find(pid);
  if (event == PTRACE_EVENT_STOP && number != SIGTRAP) {
    ptrace(PTRACE_LISTEN, pid, 0, 0);
  } else if (event == PTRACE_EVENT_EXEC && child != NULL && child->number == SYS_execve) {
    ptrace(PTRACE_DETACH, pid, 0, 0);
    child->pid = 0;
  } else if (event != 0) {
    ptrace(resume, pid, 0, 0);
  } else if (number == (SIGTRAP | 0x80)) {
    if (child != NULL) at_call(child);
    ptrace(resume, pid, 0, 0);
  } else {
    ptrace(resume, pid, 0, number);
  }
}

static void reap_events(pid_t launcher) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0;) {
    if (WIFSTOPPED(status)) {
      on_stop(pid, status, launcher);
    } else if (pid == launcher) {
      exit(0);
    } else {
      find(pid)->pid = 0;
    }
  }
}

// Names for the calls that a test names; the numbers differ from machine to machine.
static const char* name_of(long number) {
  switch (number) {
    case -1: return "none";
    case SYS_close: return "close";
    case SYS_umask: return "umask";
    case SYS_fcntl: return "fcntl";
    case SYS_prlimit64: return "prlimit64";
    case SYS_fchdir: return "fchdir";
    case SYS_prctl: return "prctl";
    case SYS_waitid: return "waitid";
    case SYS_wait4: return "wait4";
    case SYS_write: return "write";
    case SYS_dup3: return "dup3";
    case SYS_read: return "read";
    case SYS_ppoll: return "ppoll";
    case SYS_munmap: return "munmap";
    case SYS_mmap: return "mmap";
    case SYS_setsid: return "setsid";
    case SYS_getcwd: return "getcwd";
    case SYS_clock_gettime: return "clock_gettime";
    case SYS_setns: return "setns";
    case SYS_sched_yield: return "sched_yield";
    case SYS_futex: return "futex";
    case SYS_close_range: return "close_range";
    case SYS_exit_group: return "exit_group";
    default: return "other";
  }
}

static void obey(const char* line) {
  if (strncmp(line, "done", 4) == 0) {
    printf("%s %ld %ld\n", fired_at_netns_helper ? "netns_helper" : name_of(fired), fired, count);
    return;
  }
  sscanf(line, "%ld %d", &target, &error_number);
  count = 0;
  fired = -1;
  fired_at_netns_helper = 0;
  puts("armed");
}

int main(int argc, char** argv) {
  const pid_t launcher = argc > 1 ? atoi(argv[1]) : 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  sigset_t chld;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  sigprocmask(SIG_BLOCK, &chld, NULL);
  const int signals = signalfd(-1, &chld, SFD_NONBLOCK);
  const long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEFORK |
                       PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD;
  if (ptrace(PTRACE_SEIZE, launcher, 0, options) < 0) {
    perror("ptrace");
    return 1;
  }
  puts("attached");
  struct pollfd watched[] = {{0, POLLIN, 0}, {signals, POLLIN, 0}};
  for (char line[64];;) {
    reap_events(launcher);
    // A stop between the last look and now leaves its SIGCHLD pending: poll returns at once.
    poll(watched, 2, -1);
    struct signalfd_siginfo drained;
    while (read(signals, &drained, sizeof drained) > 0) {
    }
    reap_events(launcher);
    if (watched[0].revents != 0) {
      const ssize_t got = read(0, line, sizeof line - 1);
      if (got <= 0) return 0;
      line[got] = 0;
      obey(line);
    }
  }
}
