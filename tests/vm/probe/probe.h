// Small tools for asking a kernel what it does: raw calls by number, because the C library of the
// machine that compiles this is older than the kernels asked.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  NR_open_tree = 428,
  NR_move_mount = 429,
  NR_fsopen = 430,
  NR_fsconfig = 431,
  NR_fsmount = 432,
  NR_pidfd_open = 434,
  NR_clone3 = 435,
  NR_mount_setattr = 442,
  NR_fchmodat2 = 452,
  NR_statmount = 457,
};

#define OPEN_TREE_CLONE_ 1u
#define OPEN_TREE_NAMESPACE_ 2u
#define FSMOUNT_NAMESPACE_ 2u
#define AT_RECURSIVE_ 0x8000u
#define MOVE_F_EMPTY 4u
#define MOVE_T_EMPTY 0x40u
#define MOVE_BENEATH 0x200u
#define FSCONFIG_STRING 1
#define FSCONFIG_FD 5
#define FSCONFIG_CREATE 6
#define ATTR_IDMAP 0x100000u

struct clone_arguments {
  __u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};
struct mount_attributes {
  __u64 attr_set, attr_clr, propagation, userns_fd;
};

// A call without the C library around it. A child that shares its parent's memory must not return
// through a library function: it would overwrite the return address that the parent still needs.
static inline __attribute__((always_inline)) long raw2(long number, const void* first,
                                                       size_t second) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(number), "D"(first), "S"(second)
                   : "rcx", "r11", "memory");
  return result;
}

// One fact a line: "name: answer".
void say(const char* name, const char* format, ...) __attribute__((format(printf, 2, 3)));
// 0 or more: "ok"; -1: the name of errno.
const char* verdict(long result);
// Runs `body` in a process of its own, so that namespaces and mounts go away with it; returns its
// exit status.
int apart(void (*body)(void));
// Enters new user and mount namespaces as root inside. Exits the process when that fails.
void become_userns_root(__u64 more);
void private_mounts(void);
void write_file(const char* path, const char* text);
int read_file(const char* path, char* buffer, size_t size);
// A file system made with the mount API, detached; options are "key", "value" pairs, NULL ends.
int detached(const char* type, const char* const* options);
long attach(int fd, const char* where);

void probe_clone(void);
void probe_overlay(void);
void probe_trees(void);
void probe_mountns(void);
void probe_cgroups(void);
void probe_misc(void);
