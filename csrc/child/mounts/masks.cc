#include "child/mounts/masks.h"

#include "base/syscall.h"
#include "child/mounts/devices.h"
#include "child/mounts/mount.h"

namespace pyminicon::child {

using namespace kernel;

namespace {

// Masks in a fresh procfs or sysfs: the names there are the kernel's, the image can't steer them,
// so mount(2) by a relative path does in one call what takes five by descriptors.
bool enter_own(Child& child, const char* target, const char** rest) {
  const bool proc = target[0] == 'p' && target[4] == '/';
  const bool sys = target[0] == 's' && target[3] == '/';
  const int base = proc ? child.proc : sys ? child.sys : -1;
  if (base < 0 || sys::call(SYS_fchdir, base) < 0) return false;
  *rest = target + (proc ? 5 : 4);
  return true;
}

constexpr uint64_t kSealed =
    kMountAttrRdonly | kMountAttrNosuid | kMountAttrNodev | kMountAttrNoexec;

long remount_sealed(const char* target) {
  constexpr long kRemount = 32;
  return sys::call(SYS_mount, 0, sys::arg(target), 0,
                   kRemount | kMsBind | static_cast<long>(kSealed), 0);
}

// From the mask that `known` is under, if there is one: the way there is half as long as that over
// /proc/self/fd. Names below the own procfs and sysfs are the kernel's alone.
long bind_mask(const char* known, int mask, const char* target) {
  const long bound = known != nullptr ? bind_named(known, target) : -ENOENT;
  return bound == -ENOENT ? bind_named(FdName(mask).text, target) : bound;
}

// A directory of the scratch: a tmpfs for each would be made and undone at every launch.
long open_in_scratch(Child& child, const char* name, uint32_t mode) {
  if (const long r = make_directory(child.scratch, name, mode); r < 0) return r;
  return sys::openat(child.scratch, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

}  // namespace

// The mask's source is the container's own /dev/null, made or checked by this launch (char 1:3).
long mask_file(Child& child, const FsOp& op) {
  if (child.null < 0) {
    child.null = static_cast<int>(open_null(child.root));
    if (child.null < 0) return child.null;
  }
  const char* name = nullptr;
  if (enter_own(child, op.target, &name)) {
    const long masked = bind_mask(child.masked_file, child.null, name);
    if (masked == 0 && child.masked_file == nullptr) child.masked_file = name;
    return masked == -ENOENT ? 0 : masked;
  }
  const Fd target(open_beneath(child.root, op.target, O_PATH, kResolveNoSymlinks));
  if (target.failed()) return target.get() == -ENOENT ? 0 : target.get();
  const Fd mask(clone_tree(child.null, "", false));
  return mask.failed() ? mask.get() : attach(mask.get(), target.get());
}

long mask_dir(Child& child, const FsOp& op) {
  if (child.empty < 0) {
    child.empty = static_cast<int>(open_in_scratch(child, "empty", 0555));
    if (child.empty < 0) return child.empty;
  }
  const char* name = nullptr;
  if (enter_own(child, op.target, &name)) {
    // Below /proc one may be a module's, which can be loaded anew in this moment.
    const char* none = nullptr;
    const char*& known = op.target[0] == 's' ? child.masked_dir : none;
    const long masked = bind_mask(known, child.empty, name);
    if (masked < 0) return masked == -ENOENT ? 0 : masked;
    if (known != nullptr) return 0;  // sealed as that one is
    known = name;
    return remount_sealed(name);
  }
  const Fd target(open_beneath(child.root, op.target, O_PATH | O_DIRECTORY, kResolveNoSymlinks));
  if (target.failed()) return target.get() == -ENOENT ? 0 : target.get();
  const Fd mask(clone_tree(child.empty, "", false));
  if (mask.failed()) return mask.get();
  if (const long r = set_attributes(mask.get(), kSealed, false); r < 0) return r;
  return attach(mask.get(), target.get());
}

long make_read_only(Child& child, const FsOp& op) {
  const char* name = nullptr;
  if (enter_own(child, op.target, &name)) {
    const long bound = bind_named(name, name);
    return bound == -ENOENT ? 0 : bound < 0 ? bound : remount_sealed(name);
  }
  const Fd target(open_beneath(child.root, op.target, O_PATH, kResolveNoSymlinks));
  if (target.failed()) return target.get() == -ENOENT ? 0 : target.get();
  // Recursive: where the host's tree is bound, what is mounted below came along.
  const Fd tree(clone_tree(target.get(), "", true));
  if (tree.failed()) return tree.get();
  if (const long r = set_attributes(tree.get(), kMountAttrRdonly, true); r < 0) return r;
  return attach(tree.get(), target.get());
}

long make_place(Child& child, const FsOp& op) {
  const Fd target(open_beneath(child.root, op.target, O_PATH | O_DIRECTORY, kResolveNoSymlinks));
  if (target.failed()) return target.get() == -ENOENT ? 0 : target.get();
  if (const long r = make_directory(child.scratch, "place", 0755); r < 0) return r;
  Fd place(clone_tree(child.scratch, "place", false));
  if (place.failed()) return place.get();
  if (const long r = attach(place.get(), target.get()); r < 0) return r;
  child.place = place.release();
  return 0;
}

long seal(Child& child, const FsOp&) {
  const Fd place(child.place);
  child.place = -1;
  return place.failed() ? 0 : set_attributes(place.get(), kSealed, false);
}

}  // namespace pyminicon::child
