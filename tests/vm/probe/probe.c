// Says what the running kernel does, one fact a line. Only for reading: nothing decides anything by
// it.
#include "probe.h"

#include <stdarg.h>

void say(const char* name, const char* format, ...) {
  va_list args;
  printf("%-58s ", name);
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  printf("\n");
  fflush(stdout);
}

const char* verdict(long result) { return result >= 0 ? "ok" : strerrorname_np(errno); }

int apart(void (*body)(void)) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    body();
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (status != 0) say("  (that probe ended with wait status)", "%#x", status);
  return status;
}

void write_file(const char* path, const char* text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) fprintf(stderr, "probe: %s: %m\n", path);
  if (fd >= 0) close(fd);
}

int read_file(const char* path, char* buffer, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? -1 : read(fd, buffer, size - 1);
  buffer[got < 0 ? 0 : got] = 0;
  if (fd >= 0) close(fd);
  return (int)got;
}

void private_mounts(void) {
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
    fprintf(stderr, "probe: private mounts: %m\n");
    _exit(1);
  }
}

void become_userns_root(__u64 more) {
  char map[64];
  uid_t uid = getuid();
  gid_t gid = getgid();
  if (unshare(CLONE_NEWUSER | (int)more)) {
    fprintf(stderr, "probe: user namespace: %m\n");
    _exit(1);
  }
  write_file("/proc/self/setgroups", "deny");
  snprintf(map, sizeof map, "0 %u 1", uid);
  write_file("/proc/self/uid_map", map);
  snprintf(map, sizeof map, "0 %u 1", gid);
  write_file("/proc/self/gid_map", map);
  if (more & CLONE_NEWNS) mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

int detached(const char* type, const char* const* options) {
  int context = (int)syscall(NR_fsopen, type, 1);
  if (context < 0) return -1;
  for (; options && *options; options += 2)
    if (syscall(NR_fsconfig, context, FSCONFIG_STRING, options[0], options[1], 0) < 0) return -1;
  if (syscall(NR_fsconfig, context, FSCONFIG_CREATE, NULL, NULL, 0) < 0) return -1;
  int fd = (int)syscall(NR_fsmount, context, 1, 0);
  int saved = errno;
  close(context);
  errno = saved;
  return fd;
}

long attach(int fd, const char* where) {
  return syscall(NR_move_mount, fd, "", AT_FDCWD, where, MOVE_F_EMPTY);
}

int main(void) {
  setvbuf(stdout, NULL, _IOFBF, 65536);
  apart(probe_clone);
  apart(probe_overlay);
  apart(probe_trees);
  apart(probe_mountns);
  apart(probe_cgroups);
  apart(probe_misc);
  return 0;
}
