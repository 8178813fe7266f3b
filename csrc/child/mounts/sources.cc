#include "child/mounts/sources.h"

#include <sys/stat.h>

#include "base/syscall.h"
#include "child/mounts/mount.h"

namespace pyminicon::child {

using namespace kernel;

uint64_t attributes(const FsOp& op) {
  return kMountAttrNodev | (op.flags & kOpSetuid ? 0 : kMountAttrNosuid) |
         (op.flags & kOpReadOnly ? kMountAttrRdonly : 0) |
         (op.flags & kOpNoExec ? kMountAttrNoexec : 0);
}

long is_directory(int fd) {
  struct statx info{};
  const long result =
      sys::call(SYS_statx, fd, sys::arg(""), kAtEmptyPath, STATX_TYPE, sys::arg(&info));
  if (result < 0) return result;
  if (S_ISCHR(info.stx_mode) || S_ISBLK(info.stx_mode)) return -EOPNOTSUPP;  // mounted nodev
  if (S_ISLNK(info.stx_mode)) return -ELOOP;
  return S_ISDIR(info.stx_mode) ? 1 : 0;
}

namespace {

// A template's volume is the file that was there when the template was made.
long check_inode(int fd, const Inode& expected) {
  if (expected.inode == 0) return 0;
  struct statx found{};
  const long result =
      sys::call(SYS_statx, fd, sys::arg(""), kAtEmptyPath, STATX_INO, sys::arg(&found));
  if (result < 0) return result;
  const bool same = found.stx_ino == expected.inode &&
                    found.stx_dev_major == expected.device_major &&
                    found.stx_dev_minor == expected.device_minor;
  return same ? 0 : -ESTALE;
}

// The host's mounts may be shared, and these are clones of them.
long keep(Mapped& mapped, int32_t key, long fd) {
  if (fd < 0) return fd;
  mapped.keys[mapped.count] = key;
  mapped.fds[mapped.count++] = static_cast<int>(fd);
  return set_attributes(static_cast<int>(fd), 0, true);
}

bool has_source(const FsOp& op) {
  const bool of_host =
      op.kind == OpKind::kBind || op.kind == OpKind::kOverlay || op.kind == OpKind::kCgroup;
  return of_host && op.source != nullptr;
}

// An overlay's lower directory is never seen itself: no attributes of its own.
long clone_for(Child& child, const FsOp& op) {
  if (op.kind != OpKind::kOverlay) return clone_source(child, op, AT_FDCWD);
  child.report.source = 1;
  return clone_tree(AT_FDCWD, op.source, false);
}

}  // namespace

long clone_descriptor(Child& child, const FsOp& op, int source) {
  child.report.source = 1;
  if (const long r = is_directory(source); r < 0) return r;
  Fd tree(clone_tree(source, "", (op.flags & kOpRecursive) != 0));
  if (tree.failed()) return tree.get();
  // Recursive: a writable mount below a read-only one would be a hole.
  if (const long r = set_attributes(tree.get(), attributes(op), true); r < 0) return r;
  return tree.release();
}

long clone_source(Child& child, const FsOp& op, int dir) {
  child.report.source = 1;
  const int follow = op.flags & kOpFollow ? 0 : O_NOFOLLOW;
  const Fd source(sys::openat(dir, op.source, O_PATH | follow | O_CLOEXEC));
  if (source.failed()) return source.get();
  if (const long r = check_inode(source.get(), op.expected); r < 0) return r;
  return clone_descriptor(child, op, source.get());
}

// A failure is told as that of the stage which would have met it.
long take_sources_along(Child& child) {
  Report& report = child.report;
  const Stage here = static_cast<Stage>(report.stage);
  report.stage = static_cast<uint32_t>(Stage::kRootfs);
  const RootPlan& root = child.plan.root;
  for (uint32_t i = 0; i < root.layers.size; ++i) {
    const long fd = clone_tree(AT_FDCWD, root.layers.data[i], false);
    if (const long r = keep(child.mapped, static_cast<int32_t>(i), fd); r < 0) return r;
  }
  report.stage = static_cast<uint32_t>(Stage::kMount);
  for (uint32_t i = 0; i < child.plan.mounts.size; ++i) {
    const FsOp& op = child.plan.mounts.data[i];
    if (!has_source(op)) continue;
    report.index = static_cast<int32_t>(i);
    const long fd = clone_for(child, op);
    if (const long r = keep(child.mapped, kMappedOp + report.index, fd); r < 0) return r;
  }
  report.stage = static_cast<uint32_t>(here);
  report.index = -1;
  report.source = 0;
  return 0;
}

}  // namespace pyminicon::child
