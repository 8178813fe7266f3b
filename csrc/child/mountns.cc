// The mount namespace: a copy of the caller's, or one that never held the host's mounts.
#include "base/syscall.h"
#include "child/child.h"
#include "child/mount.h"
#include "child/sources.h"

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
  }
  const long is_private = sys::call(SYS_mount, 0, sys::arg("/"), 0, kMsRec | kMsPrivate, 0);
  if (is_private < 0 || !fresh) return is_private;
  // Descriptors have their names there (FdName), and the scratch is moved there in the end.
  constexpr uint64_t kQuiet = kMountAttrNosuid | kMountAttrNodev | kMountAttrNoexec;
  return mount_named("proc", "/proc", kQuiet, nullptr);
}

}  // namespace pyminicon::child
