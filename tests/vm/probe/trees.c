// Mount trees by descriptor: what can be cloned, attached and id-mapped before it hangs anywhere.
#include "probe.h"

#define BASE "/run/probe-trees"

static void base(void) {
  private_mounts();
  mkdir(BASE, 0755);
  mount("tmpfs", BASE, "tmpfs", 0, NULL);
  mkdir(BASE "/a", 0755);
  mkdir(BASE "/b", 0755);
}

static void clone_detached(void) {
  base();
  int fd = detached("tmpfs", NULL);
  int copy = (int)syscall(NR_open_tree, fd, "", OPEN_TREE_CLONE_ | AT_EMPTY_PATH | O_CLOEXEC);
  say("open_tree(CLONE) of a detached mount", "%s", verdict(copy));
  mkdirat(fd, "sub", 0755);
  int other = detached("tmpfs", NULL);
  long put = syscall(NR_move_mount, other, "", fd, "sub", MOVE_F_EMPTY);
  say("move_mount onto a detached mount", "%s", verdict(put));
  if (put == 0) say("  … and the whole tree then attached", "%s", verdict(attach(fd, BASE "/a")));
}

static void beneath(void) {
  base();
  attach(detached("tmpfs", NULL), BASE "/a");
  int fd = detached("tmpfs", NULL);
  say("MOVE_MOUNT_BENEATH", "%s",
      verdict(syscall(NR_move_mount, fd, "", AT_FDCWD, BASE "/a", MOVE_F_EMPTY | MOVE_BENEATH)));
}

static void recursive_readonly(void) {
  base();
  mkdir(BASE "/a/sub", 0755);
  mount("tmpfs", BASE "/a/sub", "tmpfs", 0, NULL);
  int fd = (int)syscall(NR_open_tree, AT_FDCWD, BASE, OPEN_TREE_CLONE_ | AT_RECURSIVE_ | O_CLOEXEC);
  struct mount_attributes want = {.attr_set = 1, .propagation = MS_PRIVATE};
  long done = syscall(NR_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE_, &want, sizeof want);
  long wrote = openat(fd, "a/sub/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  int saved = errno;
  say("mount_setattr(RDONLY, RECURSIVE, MS_PRIVATE) on a clone", "%s", verdict(done));
  errno = saved;
  say("  … a write below it", "%s", verdict(wrote));
}

static int other_userns(void) {
  int ready[2], go[2];
  char path[64];
  if (pipe(ready) || pipe(go)) _exit(1);
  pid_t pid = fork();
  if (pid == 0) {
    unshare(CLONE_NEWUSER);
    close(ready[0]);
    write(ready[1], "x", 1);
    read(go[0], path, 1);
    _exit(0);
  }
  read(ready[0], path, 1);
  snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
  write_file(path, "0 100000 65536");
  snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
  write_file(path, "0 100000 65536");
  snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  write(go[1], "x", 1);
  waitpid(pid, NULL, 0);
  return fd;
}

static void idmap_of(const char* name, int tree, int userns) {
  struct mount_attributes want = {.attr_set = ATTR_IDMAP, .userns_fd = (__u64)userns};
  say(name, "%s", verdict(syscall(NR_mount_setattr, tree, "", AT_EMPTY_PATH, &want, sizeof want)));
}

static void idmap(void) {
  base();
  int userns = other_userns();
  const char* lower[] = {"lowerdir", BASE "/a:" BASE "/b", NULL};
  idmap_of("idmapped mount of a fresh tmpfs", detached("tmpfs", NULL), userns);
  idmap_of("idmapped mount of ext4 (/tmp)",
           (int)syscall(NR_open_tree, AT_FDCWD, "/tmp", OPEN_TREE_CLONE_ | O_CLOEXEC), userns);
  idmap_of("idmapped mount of 9p (/usr)",
           (int)syscall(NR_open_tree, AT_FDCWD, "/usr", OPEN_TREE_CLONE_ | O_CLOEXEC), userns);
  idmap_of("idmapped mount of an overlay", detached("overlay", lower), userns);
  idmap_of("idmapped mount of proc", detached("proc", NULL), userns);
  mkdir("/tmp/probe-lower", 0755);
  int layer =
      (int)syscall(NR_open_tree, AT_FDCWD, "/tmp/probe-lower", OPEN_TREE_CLONE_ | O_CLOEXEC);
  idmap_of("  a lower layer of ext4, idmapped", layer, userns);
  attach(layer, BASE "/b");
  say("  overlay over that idmapped layer", "%s", verdict(detached("overlay", lower)));
}

// What a user namespace may mount for itself, with the host's full /proc and /sys around it.
static void own_file_systems(void) {
  become_userns_root(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWCGROUP);
  if (fork() == 0) {
    const char* const types[] = {"proc",   "sysfs",  "cgroup2", "tmpfs",
                                 "mqueue", "devpts", "ramfs",   NULL};
    for (const char* const* type = types; *type; type++) {
      char name[64];
      snprintf(name, sizeof name, "user namespace mounts %s", *type);
      say(name, "%s", verdict(detached(*type, NULL)));
    }
    fflush(stdout);
    _exit(0);
  }
  wait(NULL);
}

void probe_trees(void) {
  if (getuid() == 0) {
    apart(clone_detached);
    apart(beneath);
    apart(recursive_readonly);
    apart(idmap);
  }
  apart(own_file_systems);
}
