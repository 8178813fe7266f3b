// The root file system: a scratch directory, a skeleton in it, the root mount, and pivot_root.

#include <sys/socket.h>

#include "base/message.h"
#include "base/syscall.h"
#include "child/mounts/mapped.h"
#include "child/mounts/mount.h"
#include "child/mounts/stages.h"

namespace pyminicon::child {

using namespace kernel;

namespace {

constexpr char kScratchRoot[] = "root";  // the writable layer, or the whole root of `host`
constexpr char kScratchWork[] = "work";  // overlayfs's work directory for it
constexpr int kOpenDirectory = O_PATH | O_DIRECTORY | O_CLOEXEC;

uint64_t root_attributes(const RootPlan& root) {
  // nodev: a device node in an image, or one made with CAP_MKNOD, opens nothing.
  return kMountAttrNodev | (root.allow_setuid != 0 ? 0 : kMountAttrNosuid);
}

// A mount on "/" is not what "/" then means to this process, whose root stays where it was; but
// ".." of a root is that root, with what is mounted on it.
long open_top() { return sys::openat(AT_FDCWD, "/..", kOpenDirectory); }

// The scratch lies on top of "/" only to be part of this mount namespace: overlayfs before 6.15
// takes no directory of a detached mount. It goes away with the old root.
long open_scratch(Child& child) {
  const RootPlan& root = child.plan.root;
  if (root.scratch_dir != nullptr) return child.scratch >= 0 ? child.scratch : open_disk(child);
  const long mounted =
      mount_named("tmpfs", "/", kMountAttrNodev | kMountAttrNosuid, root.scratch_tmpfs);
  return mounted < 0 ? mounted : open_top();
}

long write_all(int fd, const char* bytes, uint32_t size) {
  while (size > 0) {
    const long written = sys::write(fd, bytes, size);
    if (written < 0) return written;
    bytes += written;
    size -= static_cast<uint32_t>(written);
  }
  return 0;
}

// Everything here was made by this launch a moment ago: no name in it can be a trap.
long make_entry(int dir, const FsOp& op) {
  long result = 0;
  if (op.kind == OpKind::kDir) {
    const bool itself = op.target[0] == '.' && op.target[1] == 0;
    result = itself ? sys::call(SYS_fchmodat, dir, sys::arg(op.target), op.mode)
                    : make_directory(dir, op.target, op.mode);
  } else if (op.kind == OpKind::kSymlink && op.source == nullptr) {
    // To nowhere: what an overlay's lower layer has here isn't there. A character device 0:0, which
    // anybody may make since Linux 5.8.
    return sys::call(SYS_mknodat, dir, sys::arg(op.target), S_IFCHR, 0);
  } else if (op.kind == OpKind::kSymlink) {
    return sys::call(SYS_symlinkat, sys::arg(op.source), dir, sys::arg(op.target));
  } else {
    const Fd file(sys::openat(dir, op.target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                              static_cast<int>(op.mode)));
    if (file.failed()) return file.get();
    result = write_all(file.get(), op.data, op.size);
  }
  if (result < 0 || (op.uid == 0 && op.gid == 0)) return result;
  return sys::call(SYS_fchownat, dir, sys::arg(op.target), op.uid, op.gid, kAtSymlinkNofollow);
}

long make_skeleton(Child& child, int dir) {
  for (uint32_t i = 0; i < child.plan.skeleton.size; ++i) {
    child.report.index = static_cast<int32_t>(i);
    const FsOp& op = child.plan.skeleton.data[i];
    if (const long result = make_entry(dir, op); result < 0) return result;
  }
  child.report.index = -1;
  return 0;
}

long overlay_root(Child& child, int upper, int work) {
  const RootPlan& root = child.plan.root;
  int fds[kMostMapped];
  const bool mapped = child.mapped.count > 0 && root.layers.size <= kMostMapped;
  for (uint32_t i = 0; mapped && i < root.layers.size; ++i) {
    fds[i] = mapped_layer(child, i);
    if (fds[i] < 0) continue;
    if (const long result = attach_in_scratch(child, fds[i]); result < 0) return result;
  }
  const bool writable = root.kind == RootKind::kOverlay;
  return mount_overlay("/",
                       {.layers = root.layers,
                        .fds = mapped ? fds : nullptr,
                        .cover = writable ? -1 : upper,
                        .upper = writable ? upper : -1,
                        .work = work,
                        .options = root.overlay_options,
                        .attributes = root_attributes(root) | (writable ? 0 : kMountAttrRdonly)});
}

// The scratch's own directory, or the one that is the image.
long bind_root(Child& child, int upper) {
  const RootPlan& root = child.plan.root;
  const bool image = root.kind == RootKind::kBind;
  const int taken = image ? mapped_layer(child, 0) : -1;
  if (taken >= 0) {
    const Fd top(sys::openat(AT_FDCWD, "/", kOpenDirectory));
    if (top.failed()) return top.get();
    if (const long r = attach(taken, top.get()); r < 0) return r;
  } else {
    const FdName made(upper);
    if (const long r = bind_named(image ? root.layers.data[0] : made.text, "/"); r < 0) return r;
  }
  const Fd bound(open_top());
  if (bound.failed()) return bound.get();
  // A root of scratch is made read-only when all is in it; nobody's image may be written even now.
  return set_attributes(bound.get(), root_attributes(root) | (image ? kMountAttrRdonly : 0), true);
}

long prepare_scratch(Child& child) {
  child.scratch = static_cast<int>(open_scratch(child));
  if (child.scratch < 0) return child.scratch;
  if (const long r = make_directory(child.scratch, kScratchRoot, 0755); r < 0) return r;
  if (child.plan.root.kind == RootKind::kOverlay) {
    if (const long r = make_directory(child.scratch, kScratchWork, 0700); r < 0) return r;
  }
  Fd upper(sys::openat(child.scratch, kScratchRoot, kOpenDirectory));
  if (upper.failed()) return upper.get();
  if (const long result = make_skeleton(child, upper.get()); result < 0) return result;
  return upper.release();
}

}  // namespace

long open_disk(const Child& child) {
  return sys::openat(AT_FDCWD, child.plan.root.scratch_dir, kOpenDirectory | O_NOFOLLOW);
}

long mount_root(Child& child) {
  const Fd upper(prepare_scratch(child));
  if (upper.failed()) return upper.get();
  const RootKind kind = child.plan.root.kind;
  const bool writable = kind == RootKind::kOverlay;
  const Fd work(writable ? sys::openat(child.scratch, kScratchWork, kOpenDirectory) : -1);
  if (writable && work.failed()) return work.get();
  const bool layered = writable || kind == RootKind::kCover;
  const long mounted =
      layered ? overlay_root(child, upper.get(), work.get()) : bind_root(child, upper.get());
  if (mounted < 0) return mounted;
  child.root = static_cast<int>(open_top());
  return child.root < 0 ? child.root : 0;
}

namespace {

// umount2 follows what is mounted on its target, so with the scratch still on the old root's own
// directory it would take away the scratch and leave the host. Any other place in the old root will
// do; /proc is there. A move, unlike a second umount, waits for no grace period.
long stow_scratch(Child& child) {
  if (child.plan.root.scratch_dir != nullptr) return 0;
  const Fd place(sys::openat(AT_FDCWD, "/proc", kOpenDirectory));
  return place.failed() ? place.get() : attach(child.scratch, place.get());
}

}  // namespace

// pivot_root(".", ".") stacks the old root on the new one, so that it needs no directory inside;
// detaching "." then takes the old one, the host's whole tree and the scratch with it, away.
long pivot(Child& child) {
  if (child.plan.handout_fd >= 0) {
    const long opened = sys::openat(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (opened < 0) return opened;
    child.mount_namespace = static_cast<int>(opened);
  }
  if (child.plan.root.read_only != 0 && child.plan.root.kind == RootKind::kScratch) {
    if (const long r = set_attributes(child.root, kMountAttrRdonly, false); r < 0) return r;
  }
  if (const long result = stow_scratch(child); result < 0) return result;
  if (const long result = sys::call(SYS_fchdir, child.root); result < 0) return result;
  if (const long r = sys::call(SYS_pivot_root, sys::arg("."), sys::arg(".")); r < 0) return r;
  constexpr int kMntDetach = 2;
  if (const long r = sys::call(SYS_umount2, sys::arg("."), kMntDetach); r < 0) return r;
  return sys::call(SYS_chdir, sys::arg("/"));
}

// The root's descriptor alone would not do: when the last process of a mount namespace has gone,
// its mounts are taken apart. With the namespace held the parent can read what a volume or tmpfs
// has.
long hand_out(Child& child) {
  if (child.plan.handout_fd < 0) return 0;
  const Fd root(sys::openat(AT_FDCWD, "/", kOpenDirectory));
  if (root.failed()) return root.get();
  const int fds[] = {root.get(), child.mount_namespace};
  const long sent = send_message(child.plan.handout_fd, "r", 1, fds, 2, 0);
  return sent < 0 ? sent : 0;
}

}  // namespace pyminicon::child
