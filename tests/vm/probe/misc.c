// The rest: other entries into the kernel, terminals, calls that came late.
#include <pty.h>
#include <sys/ioctl.h>

#include "probe.h"

static void i386_entry(void) {
  long result = 20;  // getpid
  __asm__ volatile("int $0x80" : "+a"(result)::"memory", "r8", "r9", "r10", "r11");
  say("i386 entry (int 0x80, getpid)", "%s",
      result == getpid() ? "works" : "answers something else");
}

static void x32_entry(void) {
  errno = 0;
  long result = syscall(0x40000000 | SYS_getpid);
  say("x32 entry (getpid|0x40000000)", "%s", result == getpid() ? "works" : verdict(result));
}

static void tiocsti(void) {
  int controller, terminal;
  if (openpty(&controller, &terminal, NULL, NULL, NULL)) return;
  setsid();
  long owned = ioctl(terminal, TIOCSCTTY, 0);
  say("TIOCSTI on the own controlling terminal", "%s (TIOCSCTTY %ld)",
      verdict(ioctl(terminal, TIOCSTI, "x")), owned);
}

static void tmpfs_option(const char* name, const char* key, const char* value) {
  const char* options[] = {key, value, NULL};
  say(name, "%s", verdict(detached("tmpfs", options)));
}

static void tmpfs(void) {
  private_mounts();
  tmpfs_option("tmpfs size=1m", "size", "1m");
  tmpfs_option("tmpfs nr_inodes=100", "nr_inodes", "100");
  int context = (int)syscall(NR_fsopen, "tmpfs", 1);
  say("tmpfs noswap", "%s", verdict(syscall(NR_fsconfig, context, 0, "noswap", NULL, 0)));
}

static void setting(const char* path) {
  char text[128];
  if (read_file(path, text, sizeof text) < 0) strcpy(text, "(missing)");
  text[strcspn(text, "\n")] = 0;
  say(path, "%s", text);
}

void probe_misc(void) {
  apart(i386_entry);
  apart(x32_entry);
  apart(tiocsti);
  if (getuid() == 0) apart(tmpfs);
  say("fchmodat2", "%s", verdict(syscall(NR_fchmodat2, AT_FDCWD, "/tmp/none", 0700, 0)));
  say("statmount (EFAULT: it is there)", "%s", verdict(syscall(NR_statmount, 0, 0, 0, 0)));
  say("landlock ABI", "%ld", syscall(444, NULL, 0, 1));
  setting("/proc/sys/dev/tty/legacy_tiocsti");
  setting("/proc/sys/kernel/unprivileged_userns_clone");
  setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
  setting("/proc/sys/kernel/unprivileged_bpf_disabled");
  setting("/proc/sys/kernel/io_uring_disabled");
  setting("/proc/sys/kernel/yama/ptrace_scope");
  setting("/proc/sys/vm/memfd_noexec");
  setting("/proc/sys/vm/unprivileged_userfaultfd");
  setting("/sys/kernel/security/lsm");
  setting("/proc/sys/kernel/dmesg_restrict");
}
