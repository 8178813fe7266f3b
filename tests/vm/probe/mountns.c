// Mount namespaces made without copying the host's: open_tree(OPEN_TREE_NAMESPACE) and
// fsmount(FSMOUNT_NAMESPACE).
#include <dirent.h>
#include <sys/vfs.h>

#include "probe.h"

#define BASE "/run/probe-mountns"

static void mountinfo(const char* title) {
  char text[4096], *save = NULL;
  read_file("/proc/self/mountinfo", text, sizeof text);
  say(title, "%s", *text ? "" : "(/proc/self/mountinfo can't be read)");
  for (char* line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
    printf("      %s\n", line);
}

static void make_root(void) {
  mkdir(BASE, 0755);
  mount("tmpfs", BASE, "tmpfs", 0, NULL);
  mkdir(BASE "/proc", 0755);
  mkdir(BASE "/sub", 0755);
  mkdir(BASE "/dev", 0755);
  mount("tmpfs", BASE "/sub", "tmpfs", 0, NULL);
  close(open(BASE "/marker", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
}

static long root_type(void) {
  struct statfs about = {0};
  statfs("/", &about);
  return about.f_type;
}

// Joins the namespace and says what is there: the root, the working directory, the mounts, what
// lies beneath.
static void look_around(int ns, const char* name) {
  char cwd[256];
  int proc = detached("proc", NULL);
  char proc_made[32];
  strcpy(proc_made, verdict(proc));
  long joined = setns(ns, CLONE_NEWNS);
  say(name, "setns %s", verdict(joined));
  if (joined < 0) return;
  say("  root is the tree; cwd", "%s; %s", access("/marker", F_OK) ? "no" : "yes",
      getcwd(cwd, sizeof cwd));
  say("  proc made before setns, attached after", "%s, %s", proc_made,
      verdict(attach(proc, "/proc")));
  mountinfo("  mounts inside");
  say("  fsopen(tmpfs) and attach inside", "%s", verdict(attach(detached("tmpfs", NULL), "/dev")));
  say("  umount2(\"/\", MNT_DETACH) inside", "%s", verdict(umount2("/", MNT_DETACH)));
  // Joining again makes the root what is now on top: what was beneath the tree.
  if (setns(ns, CLONE_NEWNS)) return;
  char names[256] = "";
  DIR* directory = opendir("/");
  for (struct dirent* entry; directory && (entry = readdir(directory));)
    if (*entry->d_name != '.') strcat(strcat(names, entry->d_name), " ");
  say("  … and joined again: what lay beneath", "%s, type %#lx, writable: %s",
      *names ? names : "(empty)", root_type(), verdict(mkdir("/made", 0755)));
}

static void of_path(void) {
  private_mounts();
  make_root();
  int ns =
      (int)syscall(NR_open_tree, AT_FDCWD, BASE, OPEN_TREE_NAMESPACE_ | AT_RECURSIVE_ | O_CLOEXEC);
  say("open_tree(path, NAMESPACE|AT_RECURSIVE)", "%s", verdict(ns));
  if (ns >= 0) look_around(ns, "  joined by a single-threaded process");
}

// The host's mounts are shared (systemd makes them so): is the copy still a peer?
static void propagation(void) {
  private_mounts();
  make_root();
  mount(NULL, BASE, NULL, MS_SHARED | MS_REC, NULL);
  int ns =
      (int)syscall(NR_open_tree, AT_FDCWD, BASE, OPEN_TREE_NAMESPACE_ | AT_RECURSIVE_ | O_CLOEXEC);
  if (ns < 0) return;
  int proc = detached("proc", NULL);
  if (setns(ns, CLONE_NEWNS) || attach(proc, "/proc")) return;
  mountinfo("open_tree(a shared mount, NAMESPACE): is it still a peer?");
}

static void of_detached(void) {
  private_mounts();
  int tree = detached("tmpfs", NULL);
  mkdirat(tree, "sub", 0755);
  mkdirat(tree, "proc", 0755);
  mkdirat(tree, "dev", 0755);
  close(openat(tree, "marker", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  long put = syscall(NR_move_mount, detached("tmpfs", NULL), "", tree, "sub", MOVE_F_EMPTY);
  int ns = (int)syscall(NR_open_tree, tree, "",
                        OPEN_TREE_NAMESPACE_ | AT_RECURSIVE_ | AT_EMPTY_PATH | O_CLOEXEC);
  char first[32];
  strcpy(first, verdict(ns));
  say("open_tree(detached tree with a submount, NAMESPACE)", "%s (submount %s)", first,
      verdict(put));
  if (ns >= 0) look_around(ns, "  joined");
}

static void by_fsmount(void) {
  int context = (int)syscall(NR_fsopen, "tmpfs", 1);
  syscall(NR_fsconfig, context, FSCONFIG_CREATE, NULL, NULL, 0);
  int ns = (int)syscall(NR_fsmount, context, 1 | FSMOUNT_NAMESPACE_, 0);
  say("fsmount(FSMOUNT_NAMESPACE)", "%s", verdict(ns));
}

static void not_a_directory(void) {
  say("open_tree(a regular file, NAMESPACE)", "%s",
      verdict(syscall(NR_open_tree, AT_FDCWD, "/etc/passwd", OPEN_TREE_NAMESPACE_ | O_CLOEXEC)));
  say("open_tree(CLONE|NAMESPACE)", "%s",
      verdict(syscall(NR_open_tree, AT_FDCWD, "/tmp",
                      OPEN_TREE_CLONE_ | OPEN_TREE_NAMESPACE_ | O_CLOEXEC)));
}

// What a launch would do: a child that shares memory, but not the file system context, joins and
// goes on.
static int shared_ns;
static long shared_result, shared_marker;
static void by_vfork_child(void) {
  private_mounts();
  make_root();
  shared_ns =
      (int)syscall(NR_open_tree, AT_FDCWD, BASE, OPEN_TREE_NAMESPACE_ | AT_RECURSIVE_ | O_CLOEXEC);
  if (shared_ns < 0) return;
  struct clone_arguments args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_NEWPID,
                                 .exit_signal = SIGCHLD};
  pid_t pid = (pid_t)raw2(NR_clone3, &args, sizeof args);
  if (pid == 0) {
    shared_result = syscall(SYS_setns, shared_ns, CLONE_NEWNS) ? -errno : 0;
    shared_marker = access("/marker", F_OK);
    _exit(0);
  }
  waitpid(pid, NULL, 0);
  say("  joined by a CLONE_VM|CLONE_VFORK child", "setns %s, root is the tree: %s",
      shared_result ? strerrorname_np((int)-shared_result) : "ok", shared_marker ? "no" : "yes");
  say("  the parent's own root is unchanged", "%s", access("/etc/passwd", F_OK) ? "no" : "yes");
}

static void in_userns(void) {
  // With a PID namespace, as every container has: else proc can't be made at all.
  become_userns_root(CLONE_NEWNS | CLONE_NEWPID);
  if (fork()) {
    wait(NULL);
    return;
  }
  make_root();
  int ns =
      (int)syscall(NR_open_tree, AT_FDCWD, BASE, OPEN_TREE_NAMESPACE_ | AT_RECURSIVE_ | O_CLOEXEC);
  say("user namespace, own mount namespace: open_tree(NAMESPACE)", "%s", verdict(ns));
  if (ns >= 0) look_around(ns, "  joined");
  fflush(stdout);
  _exit(0);
}

static void in_bare_userns(void) {
  become_userns_root(0);
  int ns = (int)syscall(NR_open_tree, AT_FDCWD, "/usr", OPEN_TREE_NAMESPACE_ | O_CLOEXEC);
  say("user namespace in the host's mount namespace: the same of /usr", "%s", verdict(ns));
  if (ns < 0) return;
  char before[32];
  strcpy(before, verdict(detached("tmpfs", NULL)));
  say("  fsopen+fsmount before setns; setns; umount2(\"/\")", "%s; %s; %s", before,
      verdict(setns(ns, CLONE_NEWNS)), verdict(umount2("/", MNT_DETACH)));
  int tmpfs = detached("tmpfs", NULL);
  say("  after setns: tmpfs made, attached onto /share", "%s, %s", verdict(tmpfs),
      verdict(attach(tmpfs, "/share")));
  say("  after setns: proc (no other proc is visible there)", "%s",
      verdict(detached("proc", NULL)));
}

static void empty_by_unshare(void) {
  long done = unshare(0x00100000);
  say("unshare(UNSHARE_EMPTY_MNTNS = 0x100000)", "%s", verdict(done));
  if (done < 0) return;
  int tmpfs = detached("tmpfs", NULL);
  mkdirat(tmpfs, "proc", 0755);
  say("  tmpfs over its root", "%s", verdict(attach(tmpfs, "/")));
  long moved = fchdir(tmpfs) ? -1 : chroot(".");
  say("  fchdir and chroot into it; proc attached", "%s, %s", verdict(moved),
      verdict(attach(detached("proc", NULL), "/proc")));
  mountinfo("  mounts inside");
}

void probe_mountns(void) {
  apart(not_a_directory);
  if (getuid() == 0) {
    apart(of_path);
    apart(propagation);
    apart(by_vfork_child);
    apart(of_detached);
    apart(by_fsmount);
    apart(empty_by_unshare);
  }
  apart(in_userns);
  apart(in_bare_userns);
}
