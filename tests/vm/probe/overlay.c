// overlayfs: how layers can be named, and what a layer on tmpfs can't do in a user namespace.
#include "probe.h"

#define BASE "/run/probe-overlay"

static void layers(const char* upper_type) {
  mkdir(BASE, 0755);
  if (strcmp(upper_type, "tmpfs") == 0)
    mount("tmpfs", BASE, "tmpfs", 0, NULL);
  else {
    char place[64];
    snprintf(place, sizeof place, "/tmp/probe-XXXXXX");
    mount(mkdtemp(place), BASE, NULL, MS_BIND, NULL);
  }
  const char* names[] = {BASE "/lower", BASE "/lower/dir", BASE "/lower2",
                         BASE "/upper", BASE "/work",      BASE "/merged"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) mkdir(names[i], 0755);
  close(open(BASE "/lower/dir/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  close(open(BASE "/lower/plain", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
}

// What a package manager does: remove a file, remove a directory, make the directory again (it must
// be opaque).
static void use(const char* name) {
  char opaque[32], white[32], renamed[32];
  strcpy(white, verdict(unlink(BASE "/merged/plain")));
  unlink(BASE "/merged/dir/file");
  long removed = rmdir(BASE "/merged/dir");
  strcpy(opaque, removed < 0 ? verdict(removed) : verdict(mkdir(BASE "/merged/dir", 0755)));
  strcpy(renamed, verdict(rename(BASE "/merged/dir", BASE "/merged/dir2")));
  say(name, "mounts; whiteout %s, opaque dir %s, its rename %s", white, opaque, renamed);
}

static void try_overlay(const char* name, const char* upper_type, const char* const* options) {
  layers(upper_type);
  int fd = detached("overlay", options);
  if (fd < 0 || attach(fd, BASE "/merged") < 0)
    say(name, "%s", verdict(-1));
  else
    use(name);
}

static const char* const kPlain[] = {"lowerdir", BASE "/lower", "upperdir", BASE "/upper",
                                     "workdir",  BASE "/work",  NULL};
static const char* const kUser[] = {"lowerdir",    BASE "/lower", "upperdir",
                                    BASE "/upper", "workdir",     BASE "/work",
                                    "userxattr",   "__flag__",    NULL};
static const char* const kPlus[] = {"lowerdir+", BASE "/lower", "lowerdir+", BASE "/lower2", NULL};

static void as_root(void) {
  private_mounts();
  try_overlay("overlay, root, tmpfs layer", "tmpfs", kPlain);
}

static int flag_aware(const char* const* options) {
  int context = (int)syscall(NR_fsopen, "overlay", 1);
  if (context < 0) return -1;
  for (; *options; options += 2) {
    int is_flag = strcmp(options[1], "__flag__") == 0;
    long done = syscall(NR_fsconfig, context, is_flag ? 0 : FSCONFIG_STRING, options[0],
                        is_flag ? NULL : options[1], 0);
    if (done < 0) return -1;
  }
  if (syscall(NR_fsconfig, context, FSCONFIG_CREATE, NULL, NULL, 0) < 0) return -1;
  return (int)syscall(NR_fsmount, context, 1, 0);
}

static void user_on(const char* name, const char* type) {
  become_userns_root(CLONE_NEWNS);
  layers(type);
  int fd = flag_aware(kUser);
  if (fd < 0 || attach(fd, BASE "/merged") < 0)
    say(name, "%s", verdict(-1));
  else
    use(name);
}

static void user_tmpfs(void) {
  user_on("overlay, user namespace, userxattr, tmpfs layer", "tmpfs");
}
static void user_disk(void) { user_on("overlay, user namespace, userxattr, ext4 layer", "ext4"); }

static void user_plain(void) {
  become_userns_root(CLONE_NEWNS);
  try_overlay("overlay, user namespace, no userxattr, tmpfs layer", "tmpfs", kPlain);
}

static void plus(void) {
  private_mounts();
  layers("tmpfs");
  int fd = detached("overlay", kPlus);
  say("overlay by fsconfig lowerdir+", "%s", verdict(fd));
}

static void by_fd(void) {
  private_mounts();
  layers("tmpfs");
  int context = (int)syscall(NR_fsopen, "overlay", 1);
  int lower = open(BASE "/lower", O_PATH | O_CLOEXEC),
      upper = open(BASE "/upper", O_PATH | O_CLOEXEC);
  long a = syscall(NR_fsconfig, context, FSCONFIG_FD, "lowerdir+", NULL, lower);
  char first[32];
  strcpy(first, verdict(a));
  long b = syscall(NR_fsconfig, context, FSCONFIG_FD, "upperdir", NULL, upper);
  say("overlay layers by descriptor: lowerdir+, upperdir", "%s, %s", first, verdict(b));
}

// A layer that lives on a mount which is attached nowhere: no directory on the host is needed for
// it.
static void detached_upper(void) {
  private_mounts();
  layers("tmpfs");
  int upper = detached("tmpfs", NULL);
  mkdirat(upper, "u", 0755);
  mkdirat(upper, "w", 0755);
  char u[64], w[64];
  snprintf(u, sizeof u, "/proc/self/fd/%d/u", upper);
  snprintf(w, sizeof w, "/proc/self/fd/%d/w", upper);
  const char* options[] = {"lowerdir", BASE "/lower", "upperdir", u, "workdir", w, NULL};
  say("overlay with its upper on a detached tmpfs (by /proc/self/fd)", "%s",
      verdict(detached("overlay", options)));
}

void probe_overlay(void) {
  mkdir("/run/probe-overlay", 0755);
  if (getuid() == 0) {
    apart(as_root);
    apart(plus);
    apart(by_fd);
    apart(detached_upper);
  }
  apart(user_plain);
  apart(user_tmpfs);
  apart(user_disk);
}
