// The child's file system, one function a step. mount(2) rather than fsopen and friends: on fixed
// targets it is 4 to 10 us cheaper a mount (one system call instead of five, no fd to close).
#pragma once

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "floor.h"
#include "sys.h"

namespace floor_bench {

struct Launch {
  FloorJob* job;
  int cgroup = -1;        // the container's own directory
  int cgroup_tasks = -1;  // open for writing, v1
  int out = -1, err = -1;
  char layer[128] = {}, etc[128] = {},
       overlay[256] = {};          // paths below the rootfs, the overlay's options
  volatile int mapped = 0;         // the parent has written the id maps
  volatile int tid = 1;            // cleared and woken by the kernel at exec
  volatile int ready = 0, go = 0;  // a parked child has done its steps; may exec
};

inline bool has(const Launch& l, uint64_t step) { return l.job->steps & step; }
inline bool in_user_namespace(const Launch& l) { return has(l, kNsUserSingle | kNsUserRanges); }

inline long mount_fs(const char* type, const char* at, unsigned long flags, const char* data) {
  return sys(SYS_mount, arg(type), arg(at), arg(type), long(flags), arg(data));
}
inline long bind(const char* from, const char* to) {
  return sys(SYS_mount, arg(from), arg(to), 0, MS_BIND);
}
inline long bind_read_only(const char* from, const char* to, unsigned long more) {
  long r = bind(from, to);
  return r < 0 ? r : sys(SYS_mount, 0, arg(to), 0, long(MS_BIND | MS_REMOUNT | MS_RDONLY | more));
}
inline long write_file(const char* path, const char* text, size_t n, int flags = 0) {
  const long fd = sys(SYS_open, arg(path), O_WRONLY | O_CLOEXEC | flags, 0644);
  if (fd < 0) return fd;
  const long r = sys(SYS_write, fd, arg(text), long(n));
  sys(SYS_close, fd);
  return r < 0 ? r : 0;
}
inline long write_etc(const char* hosts, const char* hostname) {
  static const char text[] = "127.0.0.1\tlocalhost\n::1\tlocalhost\n";
  const long r = write_file(hosts, text, sizeof text - 1, O_CREAT | O_TRUNC);
  return r < 0 ? r : write_file(hostname, "box\n", 4, O_CREAT | O_TRUNC);
}

inline long do_private(Launch&) { return sys(SYS_mount, 0, arg("/"), 0, MS_PRIVATE | MS_REC); }

// The steps after this one work relative to the new root, which is the working directory.
inline long do_root_bind(Launch& l) {
  long r = bind_read_only(l.job->rootfs, l.job->rootfs, MS_NOSUID | MS_NODEV);
  return r < 0 ? r : sys(SYS_chdir, arg(l.job->rootfs));
}

// In the layer before it is mounted, since the first file made through the overlay copies its
// directory up (40 us).
inline long etc_in_layer(const Launch& l) {
  struct stat lower;
  if (long r = sys(SYS_stat, arg(l.etc), arg(&lower)); r < 0) return r;
  if (long r = sys(SYS_mkdir, arg("u/etc"), lower.st_mode & 07777); r < 0) return r;
  if (lower.st_uid | lower.st_gid) sys(SYS_chown, arg("u/etc"), lower.st_uid, lower.st_gid);
  return write_etc("u/etc/hosts", "u/etc/hostname");
}

// The layer is mounted on the rootfs' own /proc, where the overlay hides it: a mount that is never
// attached would cost a grace period to close.
inline long do_root_overlay(Launch& l) {
  long r = mount_fs("tmpfs", l.layer, MS_NOSUID | MS_NODEV, "size=512m,mode=0755");
  if (r < 0 || (r = sys(SYS_chdir, arg(l.layer))) < 0) return r;
  sys(SYS_mkdir, arg("u"), 0755);
  sys(SYS_mkdir, arg("w"), 0700);
  if (has(l, kEtc) && (r = etc_in_layer(l)) < 0) return r;
  r = mount_fs("overlay", l.job->rootfs, MS_NODEV, l.overlay);
  return r < 0 ? r : sys(SYS_chdir, arg(l.job->rootfs));
}

inline long do_proc(Launch&) {
  return mount_fs("proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

inline long do_sysfs(Launch& l) {
  constexpr unsigned long kFlags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  // A new sysfs needs to own the network namespace.
  if (in_user_namespace(l) && !has(l, kNsNet)) return bind_read_only("/sys", "sys", kFlags);
  return mount_fs("sysfs", "sys", kFlags, nullptr);
}

struct Node {
  const char* host;
  unsigned major, minor;
};
constexpr Node kNodes[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                           {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};

inline long do_dev(Launch& l) {
  long r = mount_fs("tmpfs", "dev", MS_NOSUID | MS_NOEXEC, "size=64k,mode=0755");
  sys(SYS_umask, 0);
  for (const Node& n : kNodes) {
    if (r < 0) return r;
    const bool by_bind = in_user_namespace(l);  // mknod is refused there
    r = sys(SYS_mknod, arg(n.host + 1), by_bind ? S_IFREG | 0666 : S_IFCHR | 0666,
            by_bind ? 0 : long(makedev(n.major, n.minor)));
    if (r >= 0 && by_bind) r = bind(n.host, n.host + 1);
  }
  sys(SYS_umask, 022);
  sys(SYS_symlink, arg("/proc/self/fd"), arg("dev/fd"));
  sys(SYS_symlink, arg("/proc/self/fd/0"), arg("dev/stdin"));
  sys(SYS_symlink, arg("/proc/self/fd/1"), arg("dev/stdout"));
  sys(SYS_symlink, arg("/proc/self/fd/2"), arg("dev/stderr"));
  sys(SYS_symlink, arg("pts/ptmx"), arg("dev/ptmx"));
  if (has(l, kDevpts)) sys(SYS_mkdir, arg("dev/pts"), 0755);
  if (has(l, kShm)) sys(SYS_mkdir, arg("dev/shm"), 0755);
  if (has(l, kMqueue)) sys(SYS_mkdir, arg("dev/mqueue"), 0755);
  return r;
}

inline long do_devpts(Launch&) {
  return mount_fs("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC,
                  "newinstance,ptmxmode=0666,mode=0620");
}

inline long do_shm(Launch&) {
  return mount_fs("tmpfs", "dev/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m");
}

inline long do_mqueue(Launch&) {
  return mount_fs("mqueue", "dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

// Docker's lists. Whoever launches many containers looks once which of them this kernel has.
struct MaskPath {
  char kind;  // 'd' masked directory, 'f' masked file, 'r' read-only
  const char* path;
  bool absent = false;
};
inline MaskPath mask_paths[] = {{'d', "proc/acpi"},
                                {'d', "proc/asound"},
                                {'d', "proc/scsi"},
                                {'d', "sys/firmware"},
                                {'d', "sys/devices/virtual/powercap"},
                                {'f', "proc/kcore"},
                                {'f', "proc/keys"},
                                {'f', "proc/latency_stats"},
                                {'f', "proc/timer_list"},
                                {'f', "proc/timer_stats"},
                                {'f', "proc/sched_debug"},
                                {'f', "proc/interrupts"},
                                {'r', "proc/bus"},
                                {'r', "proc/fs"},
                                {'r', "proc/irq"},
                                {'r', "proc/sys"},
                                {'r', "proc/sysrq-trigger"}};

__attribute__((constructor)) inline void probe_masks() {
  const long host = sys(SYS_open, arg("/"), O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (MaskPath& m : mask_paths) m.absent = sys(SYS_faccessat, host, arg(m.path), 0) < 0;
  sys(SYS_close, host);
}

inline long do_masks(Launch& l) {
  for (const MaskPath& m : mask_paths) {
    if (m.absent || (m.path[0] == 's' && !has(l, kSysfs))) continue;
    const long r = m.kind == 'd' ? mount_fs("tmpfs", m.path, MS_RDONLY, "size=0,nr_inodes=1")
                   : m.kind == 'f'
                       ? bind("dev/null", m.path)
                       : bind_read_only(m.path, m.path, MS_NOSUID | MS_NODEV | MS_NOEXEC);
    if (r < 0) return r;
  }
  return 0;
}

// On a read-only root the two files are bound over the image's own; with an overlay they are there.
inline long do_etc(Launch& l) {
  if (has(l, kRootOverlay)) return 0;
  long r = write_etc("dev/hosts", "dev/hostname");
  if (r >= 0) r = bind("dev/hosts", "etc/hosts");
  if (r >= 0) r = bind("dev/hostname", "etc/hostname");
  sys(SYS_unlink, arg("dev/hosts"));
  sys(SYS_unlink, arg("dev/hostname"));
  return r;
}

inline long do_pivot(Launch&) {
  long r = sys(SYS_pivot_root, arg("."), arg("."));
  if (r >= 0) r = sys(SYS_umount2, arg("."), MNT_DETACH);
  return r < 0 ? r : sys(SYS_chdir, arg("/"));
}

}  // namespace floor_bench
