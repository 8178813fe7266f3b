// The mounts and files inside the root, one operation after the other.
#include "base/syscall.h"
#include "child/mounts/devices.h"
#include "child/mounts/mapped.h"
#include "child/mounts/masks.h"
#include "child/mounts/mount.h"
#include "child/mounts/sources.h"
#include "child/mounts/stages.h"
#include "child/mounts/sysctls.h"

namespace pyminicon::child {

using namespace kernel;

namespace {

long open_target(Child& child, const FsOp& op, bool directory) {
  const uint64_t resolve = op.flags & kOpNoSymlink ? kResolveNoSymlinks : 0;
  if (op.flags & kOpMakeTarget) return open_or_make(child.root, op.target, directory, resolve);
  return open_beneath(child.root, op.target, O_PATH | (directory ? O_DIRECTORY : 0), resolve);
}

bool same_file_system_type(int fd, long magic) {
  struct {
    long type;
    char rest[256];
  } info{};
  return sys::call(SYS_fstatfs, fd, sys::arg(&info)) == 0 && info.type == magic;
}

constexpr long kProcMagic = 0x9fa0, kSysfsMagic = 0x62656572;

long attach_at(Child& child, const FsOp& op, int mount, bool directory) {
  const Fd target(open_target(child, op, directory));
  if (target.failed()) {
    return target.get() == -ENOENT && (op.flags & kOpIfTarget) ? 0 : target.get();
  }
  return attach(mount, target.get());
}

long attach_tree(Child& child, const FsOp& op, int tree) {
  const long directory = is_directory(tree);
  if (directory < 0) return directory;
  child.report.source = 0;
  return attach_at(child, op, tree, directory == 1);
}

long bind(Child& child, const FsOp& op, int dir) {
  if (const int mapped = mapped_op(child); mapped >= 0) return attach_tree(child, op, mapped);
  const Fd tree(clone_source(child, op, dir));
  if (tree.failed()) return tree.get();
  return attach_tree(child, op, tree.get());
}

long bind_layer(Child& child, const FsOp& op) {
  const Fd root(sys::openat(child.scratch, "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return root.failed() ? root.get() : bind(child, op, root.get());
}

// The private layer of an overlay: a directory of its own, or what the skeleton has at the target.
long private_layer(Child& child, const FsOp& op, const char* name) {
  if ((op.flags & kOpSkeleton) != 0) {
    const Fd root(sys::openat(child.scratch, "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (root.failed()) return root.get();
    return sys::openat(root.get(), op.target, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }
  if (const long r = make_directory(child.scratch, name, op.mode); r < 0) return r;
  return sys::openat(child.scratch, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

long overlay(Child& child, const FsOp& op) {
  child.report.source = 1;
  char name[64];
  uint32_t size = 0;
  while (op.data[size] != 0 && size < 62) ++size;
  for (uint32_t i = 0; i < size; ++i) name[i] = op.data[i];
  name[size + 1] = 0;
  name[size] = 'u';
  const Fd upper(private_layer(child, op, name));
  if (upper.failed()) return upper.get();
  name[size] = 'w';
  if (const long r = make_directory(child.scratch, name, 0700); r < 0) return r;
  const Fd work(sys::openat(child.scratch, name, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (work.failed()) return work.get();
  const char* source = op.source;
  const int mapped = mapped_op(child);
  if (mapped >= 0) {
    if (const long r = attach_in_scratch(child, mapped); r < 0) return r;
  }
  child.report.source = 0;
  const Fd target(open_target(child, op, true));
  if (target.failed()) return target.get();
  child.report.source = 1;
  const bool writable = (op.flags & kOpReadOnly) == 0;
  return mount_overlay(FdName(target.get()).text, {.layers = {&source, 1},
                                                   .fds = &mapped,
                                                   .cover = writable ? -1 : upper.get(),
                                                   .upper = writable ? upper.get() : -1,
                                                   .work = writable ? work.get() : -1,
                                                   .options = child.plan.root.overlay_options,
                                                   .attributes = attributes(op)});
}

// A procfs or sysfs of the container's own, or where the kernel forbids one (the namespace it shows
// isn't ours), the host's bound.
long pseudo(Child& child, const FsOp& op, const char* type, long magic) {
  if (op.flags & kOpHostBind) {
    const Fd host(sys::openat(AT_FDCWD, op.source, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (host.failed()) return host.get();
    if (!same_file_system_type(host.get(), magic)) return -ENODEV;
    if (magic == kProcMagic) {
      if (const long r = keep_settings(child, host.get()); r < 0) return r;
    }
    const Fd tree(clone_descriptor(child, op, host.get()));
    return tree.failed() ? tree.get() : attach_tree(child, op, tree.get());
  }
  const Fd target(open_target(child, op, true));
  if (target.failed()) return target.get();
  // On the descriptor's own name mount(2) does in one call what fsopen and its kin take five for.
  const long mounted = mount_named(type, FdName(target.get()).text, attributes(op), nullptr);
  if (mounted < 0) return mounted;
  const long top = open_beneath(child.root, op.target, O_PATH | O_DIRECTORY, kResolveNoSymlinks);
  if (top < 0) return top;
  (magic == kProcMagic ? child.proc : child.sys) = static_cast<int>(top);
  return magic == kProcMagic ? keep_settings(child, child.proc) : 0;
}

long tmpfs(Child& child, const FsOp& op) {
  const Fd target(open_target(child, op, true));
  if (target.failed()) return target.get();
  return mount_named("tmpfs", FdName(target.get()).text, attributes(op), op.data);
}

long parent_of(Child& child, const FsOp& op, const char** name) {
  uint32_t slash = 0, size = 0;
  for (; op.target[size] != 0; ++size) {
    if (op.target[size] == '/') slash = size;
  }
  if (size >= 4096) return -ENAMETOOLONG;
  char above[4096];
  for (uint32_t i = 0; i < slash; ++i) above[i] = op.target[i];
  above[slash] = 0;
  *name = op.target + slash + (slash > 0 ? 1 : 0);
  return open_or_make(child.root, above, true, 0);
}

// Replaces whatever is there: a link in the image must not lead the write elsewhere.
long file(Child& child, const FsOp& op) {
  const char* name = nullptr;
  const Fd dir(parent_of(child, op, &name));
  if (dir.failed()) return dir.get();
  const long gone = sys::call(SYS_unlinkat, dir.get(), sys::arg(name), 0);
  if (gone < 0 && gone != -ENOENT) return gone;
  const Fd made(sys::openat(dir.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                            static_cast<int>(op.mode)));
  if (made.failed()) return made.get();
  for (uint32_t done = 0; done < op.size;) {
    const long written = sys::write(made.get(), op.data + done, op.size - done);
    if (written < 0) return written;
    done += static_cast<uint32_t>(written);
  }
  if (op.uid == 0 && op.gid == 0) return 0;
  return sys::call(SYS_fchown, made.get(), op.uid, op.gid);
}

long directory(Child& child, const FsOp& op) {
  const Fd made(open_or_make(child.root, op.target, true, 0));
  return made.failed() ? made.get() : 0;
}

long symlink(Child& child, const FsOp& op) {
  const char* name = nullptr;
  const Fd dir(parent_of(child, op, &name));
  if (dir.failed()) return dir.get();
  return sys::call(SYS_symlinkat, sys::arg(op.source), dir.get(), sys::arg(name));
}

// At /sys/fs/cgroup or, where there are several, in the place that was made there.
long show_cgroup(Child& child, const FsOp& op, int tree) {
  if ((op.flags & kOpMakeTarget) == 0) return attach_at(child, op, tree, true);
  if (child.place < 0) return 0;
  const char* name = op.target;
  for (const char* at = name; *at != 0; ++at) {
    if (*at == '/') name = at + 1;
  }
  if (const long r = make_directory(child.place, name, 0755); r < 0) return r;
  return attach_as(tree, child.place, name);
}

long cgroup(Child& child, const FsOp& op) {
  if (op.source == nullptr) return 0;  // a container without limits has no cgroup of its own
  if (const int mapped = mapped_op(child); mapped >= 0) return show_cgroup(child, op, mapped);
  // This launch made it, and there are no links among cgroups.
  child.report.source = 1;
  const Fd tree(clone_tree(AT_FDCWD, op.source, false));
  if (tree.failed()) return tree.get();
  if (const long r = set_attributes(tree.get(), attributes(op), false); r < 0) return r;
  child.report.source = 0;
  return show_cgroup(child, op, tree.get());
}

long apply(Child& child, const FsOp& op) {
  switch (op.kind) {
    case OpKind::kDir:
      return directory(child, op);
    case OpKind::kFile:
      return file(child, op);
    case OpKind::kSymlink:
      return symlink(child, op);
    case OpKind::kBind:
      return bind(child, op, AT_FDCWD);
    case OpKind::kBindLayer:
      return bind_layer(child, op);
    case OpKind::kTmpfs:
      return tmpfs(child, op);
    case OpKind::kOverlay:
      return overlay(child, op);
    case OpKind::kProc:
      return pseudo(child, op, "proc", kProcMagic);
    case OpKind::kSysfs:
      return pseudo(child, op, "sysfs", kSysfsMagic);
    case OpKind::kDev:
      return make_dev(child, op);
    case OpKind::kCgroup:
      return cgroup(child, op);
    case OpKind::kMaskFile:
      return mask_file(child, op);
    case OpKind::kMaskDir:
      return mask_dir(child, op);
    case OpKind::kReadOnly:
      return make_read_only(child, op);
    case OpKind::kPlace:
      return make_place(child, op);
    case OpKind::kSeal:
      return seal(child, op);
    case OpKind::kConsole:
      return bind_console(child, op);
  }
  return -EINVAL;
}

uint32_t first_sysfs(View<FsOp> mounts) {
  uint32_t at = 0;
  while (at < mounts.size && mounts.data[at].kind != OpKind::kSysfs) ++at;
  return at;
}

long mount_each(Child& child, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; ++i) {
    child.report.index = static_cast<int32_t>(i);
    child.report.source = 0;
    const long result = apply(child, child.plan.mounts.data[i]);
    if (result < 0) return result;
  }
  child.report.index = -1;
  return 0;
}

}  // namespace

long mount_before_sysfs(Child& child) {
  return mount_each(child, 0, first_sysfs(child.plan.mounts));
}

long mount_sysfs(Child& child) {
  const View<FsOp> mounts = child.plan.mounts;
  return mount_each(child, first_sysfs(mounts), mounts.size);
}

}  // namespace pyminicon::child
