// The mount namespace: a copy of the caller's, or one that never held the host's mounts.
#include <sys/stat.h>

#include "base/syscall.h"
#include "child/mounts/mount.h"
#include "child/mounts/sources.h"
#include "child/mounts/stages.h"

namespace pyminicon::child {

using namespace kernel;

namespace {

// Copying the host's mounts and detaching them again grows with their number, 3 ms at a thousand.
// From Linux 7.0 a namespace can be made of one mount: the host's root alone, without what is
// mounted in it. What is needed of the rest comes along as clones. pivot_root then takes this one
// mount away as it would the host's tree.
long enter_fresh(Child& child) {
  if (const long r = take_sources_along(child); r < 0) return r;
  const Fd made(
      sys::call(kSysOpenTree, AT_FDCWD, sys::arg("/"), kOpenTreeNamespace | kOpenTreeCloexec));
  if (made.failed()) return made.get();
  return sys::call(SYS_setns, made.get(), kCloneNewns);
}

// Where a name leads to, as far as it must be told apart here.
struct Place {
  uint64_t mount = 0, inode = 0;
  bool operator==(const Place& other) const { return mount == other.mount && inode == other.inode; }
};

long look(const char* path, Place& place) {
  struct statx info{};
  const long r =
      sys::call(SYS_statx, AT_FDCWD, sys::arg(path), 0, STATX_INO | kStatxMountId, sys::arg(&info));
  const char* const mount = reinterpret_cast<const char*>(&info) + kStatxMountIdAt;
  __builtin_memcpy(&place.mount, mount, sizeof place.mount);
  place.inode = info.stx_ino;
  return r;
}

// pivot_root replaces the caller's root, wherever that hangs. Was the caller itself put into a
// directory by chroot, the machine's whole tree would stay around the container, and its root could
// walk up into it by the well-known steps (chroot, fchdir, ".."). So that directory becomes the
// root of this namespace first, and the machine's tree goes.
long move_into(int directory) {
  if (const long r = sys::call(SYS_mount, 0, sys::arg("/"), 0, kMsRec | kMsPrivate, 0); r < 0) {
    return r;
  }
  const Fd tree(clone_tree(directory, "", true));
  if (tree.failed()) return tree.get();
  if (const long r = attach(tree.get(), directory); r < 0) return r;
  if (const long r = sys::call(SYS_fchdir, tree.get()); r < 0) return r;
  if (const long r = sys::call(SYS_pivot_root, sys::arg("."), sys::arg(".")); r < 0) return r;
  constexpr int kMntDetach = 2;
  if (const long r = sys::call(SYS_umount2, sys::arg("."), kMntDetach); r < 0) return r;
  return sys::call(SYS_chdir, sys::arg("/"));
}

// To enter one's own mount namespace is to go to its real root (setns(2)). Whoever lacks
// CAP_SYS_CHROOT for that can't give it to a container either, and without it nobody walks out.
long leave_chroot() {
  const Fd directory(sys::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (directory.failed()) return directory.get();
  Place before, now;
  if (const long r = look("/", before); r < 0) return r;
  const Fd self(sys::call(kSysPidfdOpen, sys::call(SYS_getpid), 0));
  if (self.failed()) return self.get();
  if (const long r = sys::call(SYS_setns, self.get(), kCloneNewns); r < 0) {
    return r == -EPERM ? 0 : r;
  }
  if (const long r = look("/", now); r < 0) return r;
  return before == now ? 0 : move_into(directory.get());
}

}  // namespace

// A clone of the mount namespace is a clone of its peer groups too, and so is that of a single
// mount: without this every mount below would appear on the host, and later mounts of the host in
// here.
long make_mounts_private(Child& child) {
  const bool fresh = child.plan.fresh_mounts != 0;
  if (fresh) {
    if (const long r = enter_fresh(child); r < 0) return r;
  } else if ((child.plan.namespaces & kCloneNewns) == 0) {
    return 0;
  } else if (const long r = leave_chroot(); r < 0) {
    return r;
  }
  const long is_private = sys::call(SYS_mount, 0, sys::arg("/"), 0, kMsRec | kMsPrivate, 0);
  if (is_private < 0 || !fresh) return is_private;
  // Descriptors have their names there (FdName), and the scratch is moved there in the end.
  constexpr uint64_t kQuiet = kMountAttrNosuid | kMountAttrNodev | kMountAttrNoexec;
  return mount_named("proc", "/proc", kQuiet, nullptr);
}

}  // namespace pyminicon::child
