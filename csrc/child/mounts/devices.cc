#include "child/mounts/devices.h"

#include <sys/stat.h>

#include "base/syscall.h"
#include "child/mounts/mount.h"

namespace pyminicon::child {

using namespace kernel;

namespace {

struct Node {
  const char* name;
  uint32_t major, minor;
};
constexpr Node kNodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                           {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

struct Link {
  const char* name;
  const char* target;
};
constexpr Link kLinks[] = {{"fd", "/proc/self/fd"},
                           {"stdin", "/proc/self/fd/0"},
                           {"stdout", "/proc/self/fd/1"},
                           {"stderr", "/proc/self/fd/2"},
                           {"ptmx", "pts/ptmx"}};

// A name can be swapped for another (CVE-2025-31133): what counts is the device behind the
// descriptor.
long check_device(int fd, uint32_t major, uint32_t minor) {
  struct statx info{};
  const long result =
      sys::call(SYS_statx, fd, sys::arg(""), kAtEmptyPath, STATX_TYPE, sys::arg(&info));
  if (result < 0) return result;
  const bool right =
      S_ISCHR(info.stx_mode) && info.stx_rdev_major == major && info.stx_rdev_minor == minor;
  return right ? 0 : -ENODEV;
}

long bind_node(int dev, const Node& node) {
  char path[32] = "/dev/";
  for (uint32_t i = 0; node.name[i] != 0; ++i) path[5 + i] = node.name[i];
  const Fd host(sys::openat(AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (host.failed()) return host.get();
  if (const long r = check_device(host.get(), node.major, node.minor); r < 0) return r;
  const Fd tree(clone_tree(host.get(), "", false));
  if (tree.failed()) return tree.get();
  const Fd file(sys::openat(dev, node.name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file.failed()) return file.get();
  return attach(tree.get(), file.get());
}

long make_nodes(int dev, bool bind) {
  for (const Node& node : kNodes) {
    long result = 0;
    const uint64_t number = (node.major << 8) | node.minor;
    if (!bind) {
      result = sys::call(SYS_mknodat, dev, sys::arg(node.name), S_IFCHR | 0666,
                         static_cast<long>(number));
      // A bounding set without CAP_MKNOD, a user namespace, a device cgroup that forbids it.
      bind = result == -EPERM;
    }
    if (bind) result = bind_node(dev, node);
    if (result < 0) return result;
  }
  for (const Link& link : kLinks) {
    const long result = sys::call(SYS_symlinkat, sys::arg(link.target), dev, sys::arg(link.name));
    if (result < 0) return result;
  }
  return 0;
}

// By mount(2) and a relative name: the directory around it was made by this launch a moment ago.
long mount_below(const char* name, const char* type, const char* options, unsigned long flags) {
  if (const long r = make_directory(AT_FDCWD, name, 0755); r < 0) return r;
  return mount_named(type, name, flags, options);
}

}  // namespace

// op.source: devpts options, op.data: /dev/shm's options.
long make_dev(Child& child, const FsOp& op) {
  const uint64_t quiet = kMountAttrNosuid | kMountAttrNoexec;
  const Fd target(
      op.flags & kOpMakeTarget
          ? open_or_make(child.root, op.target, true, kResolveNoSymlinks)
          : open_beneath(child.root, op.target, O_PATH | O_DIRECTORY, kResolveNoSymlinks));
  if (target.failed()) return target.get();
  const long mounted = mount_named("tmpfs", FdName(target.get()).text, quiet, "size=64k,mode=755");
  if (mounted < 0) return mounted;
  const Fd dev(open_beneath(child.root, op.target, O_PATH | O_DIRECTORY, kResolveNoSymlinks));
  if (dev.failed()) return dev.get();
  if (const long r = make_nodes(dev.get(), (op.flags & kOpBindNodes) != 0); r < 0) return r;
  constexpr unsigned long kQuiet = 2 | 8, kDataOnly = kQuiet | 4;  // nosuid noexec, nodev
  if (const long r = sys::call(SYS_fchdir, dev.get()); r < 0) return r;
  if (const long r = mount_below("pts", "devpts", op.source, kQuiet); r < 0) return r;
  if (const long r = mount_below("shm", "tmpfs", op.data, kDataOnly); r < 0) return r;
  if (op.flags & kOpMqueue) {
    if (const long r = mount_below("mqueue", "mqueue", nullptr, kDataOnly); r < 0) return r;
  }
  if (op.flags & kOpConsoleTarget) {
    const Fd file(sys::openat(dev.get(), "console", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file.failed()) return file.get();
  }
  // Read-only from here: no node can be made in the one place where nodes work.
  return set_attributes(dev.get(), kMountAttrRdonly, false);
}

long open_null(int root) {
  Fd null(open_beneath(root, "dev/null", O_PATH, kResolveNoSymlinks));
  if (null.failed()) return null.get();
  if (const long result = check_device(null.get(), 1, 3); result < 0) return result;
  return null.release();
}

long open_own_null() {
  Fd null(sys::openat(AT_FDCWD, "/dev/null", O_RDWR | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC));
  if (null.failed()) return null.get();
  if (const long result = check_device(null.get(), 1, 3); result < 0) return result;
  return null.release();
}

// The pty belongs to the host's devpts. It can't be cloned by its descriptor: that is of the
// caller's mount namespace, and open_tree clones mounts of its own alone (EINVAL). So it is by its
// name, but what counts is that the descriptor is the same file (a name can be swapped:
// CVE-2025-52565).
long bind_console(Child& child, const FsOp& op) {
  const Fd named(sys::openat(AT_FDCWD, op.source, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (named.failed()) return named.get();
  struct statx name{}, terminal{};
  const int fds[] = {named.get(), child.plan.stdio.fd[0]};
  struct statx* const found[] = {&name, &terminal};
  for (int i = 0; i < 2; ++i) {
    const long result = sys::call(SYS_statx, fds[i], sys::arg(""), kAtEmptyPath,
                                  STATX_TYPE | STATX_INO, sys::arg(found[i]));
    if (result < 0) return result;
  }
  const bool same = S_ISCHR(name.stx_mode) && name.stx_ino == terminal.stx_ino &&
                    name.stx_dev_major == terminal.stx_dev_major &&
                    name.stx_dev_minor == terminal.stx_dev_minor;
  if (!same) return -ENOTTY;
  const Fd tree(clone_tree(named.get(), "", false));
  if (tree.failed()) return tree.get();
  const Fd target(open_beneath(child.root, op.target, O_PATH, kResolveNoSymlinks));
  return target.failed() ? target.get() : attach(tree.get(), target.get());
}

}  // namespace pyminicon::child
