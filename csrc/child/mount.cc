#include "child/mount.h"

#include <linux/limits.h>
#include <sys/stat.h>

#include "base/syscall.h"

namespace pyminicon::child {

using namespace kernel;

Fd::~Fd() {
  if (value_ >= 0) sys::close(value_);
}

long open_beneath(int root, const char* path, int flags, uint64_t resolve) {
  OpenHow how{static_cast<uint64_t>(flags | O_CLOEXEC), 0,
              resolve | kResolveInRoot | kResolveNoMagiclinks};
  if (path[0] == 0) path = ".";
  for (;;) {
    const long result = sys::call(kSysOpenat2, root, sys::arg(path), sys::arg(&how), sizeof how);
    // EAGAIN: a rename somewhere raced with the walk; the kernel asks to try again (openat2(2)).
    if (result != -EAGAIN) return result;
  }
}

namespace {

// Opens one prefix of a path, making its last component if it is missing.
long step_into(int root, const char* prefix, uint32_t parent, bool directory, uint64_t resolve) {
  const int flags = O_PATH | (directory ? O_DIRECTORY : 0);
  const long found = open_beneath(root, prefix, flags, resolve);
  if (found != -ENOENT) return found;
  char above[PATH_MAX];
  for (uint32_t i = 0; i < parent; ++i) above[i] = prefix[i];
  above[parent] = 0;
  const Fd dir(open_beneath(root, above, O_PATH | O_DIRECTORY, resolve));
  if (dir.failed()) return dir.get();
  const char* name = prefix + parent + (prefix[parent] == '/' ? 1 : 0);
  if (directory) {
    const long made = sys::mkdirat(dir.get(), name, 0755);
    if (made < 0 && made != -EEXIST) return made;
  } else {
    const long made = sys::openat(dir.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (made < 0 && made != -EEXIST) return made;
    if (made >= 0) sys::close(static_cast<int>(made));
  }
  return open_beneath(root, prefix, flags, resolve);
}

}  // namespace

long open_or_make(int root, const char* path, bool directory, uint64_t resolve) {
  const long found = open_beneath(root, path, O_PATH | (directory ? O_DIRECTORY : 0), resolve);
  if (found != -ENOENT) return found;
  char prefix[PATH_MAX];
  uint32_t parent = 0;
  for (uint32_t i = 0;; ++i) {
    if (i == PATH_MAX) return -ENAMETOOLONG;
    if (path[i] != '/' && path[i] != 0) {
      prefix[i] = path[i];
      continue;
    }
    prefix[i] = 0;
    const bool last = path[i] == 0;
    const long fd = step_into(root, prefix, parent, last ? directory : true, resolve);
    if (last || fd < 0) return fd;
    sys::close(static_cast<int>(fd));
    prefix[i] = '/';
    parent = i;
  }
}

long mount_named(const char* type, const char* target, uint64_t attributes, const char* options) {
  return sys::call(SYS_mount, sys::arg(type), sys::arg(target), sys::arg(type),
                   static_cast<long>(attributes), sys::arg(options));
}

long bind_named(const char* source, const char* target) {
  return sys::call(SYS_mount, sys::arg(source), sys::arg(target), 0, kMsBind, 0);
}

long clone_tree(int dir, const char* path, bool recursive) {
  unsigned flags = kOpenTreeClone | kOpenTreeCloexec | (recursive ? kAtRecursive : 0);
  if (path[0] == 0) flags |= kAtEmptyPath;
  Fd tree(sys::call(kSysOpenTree, dir, sys::arg(path), flags));
  if (tree.failed()) return tree.get();
  return tree.release();
}

long set_attributes(int mount, uint64_t set, bool recursive) {
  const MountAttr attributes{set, 0, kMsPrivate, 0};
  return sys::call(kSysMountSetattr, mount, sys::arg(""),
                   kAtEmptyPath | (recursive ? kAtRecursive : 0), sys::arg(&attributes),
                   sizeof attributes);
}

long attach(int mount, int target) {
  return sys::call(kSysMoveMount, mount, sys::arg(""), target, sys::arg(""),
                   kMoveMountFEmptyPath | kMoveMountTEmptyPath);
}

long make_directory(int dir, const char* path, uint32_t mode) {
  const long made = sys::mkdirat(dir, path, mode);
  return made == -EEXIST ? 0 : made;
}

namespace {

constexpr uint32_t kMaxLayers = 500;  // overlayfs's own limit, OVL_MAX_STACK

struct Layers {
  int fds[kMaxLayers + 1];
  uint32_t size = 0;
  ~Layers() {
    for (uint32_t i = 0; i < size; ++i) sys::close(fds[i]);
  }
};

// mount(2)'s options: a page, of which the layers by the bare numbers of their descriptors take
// half.
class Options {
 public:
  void add(const char* more) {
    while (*more != 0 && used_ + 1 < sizeof text_) text_[used_++] = *more++;
    text_[used_] = 0;
    cut_ = cut_ || *more != 0;
  }
  void add(const char* more, int fd) {
    add(more);
    add(FdName(fd).number());
  }
  bool cut() const { return cut_; }
  const char* text() const { return text_; }

 private:
  char text_[4096];
  uint32_t used_ = 0;
  bool cut_ = false;
};

long open_layers(int cover, View<const char*> layers, const int* fds, Layers& open) {
  if (cover >= 0) {
    const long copy = sys::fcntl(cover, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return copy;
    open.fds[open.size++] = static_cast<int>(copy);
  }
  for (uint32_t i = 0; i < layers.size; ++i) {
    const long fd = fds != nullptr && fds[i] >= 0
                        ? sys::fcntl(fds[i], F_DUPFD_CLOEXEC, 3)
                        : sys::openat(AT_FDCWD, layers.data[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fd;
    open.fds[open.size++] = static_cast<int>(fd);
  }
  return 0;
}

}  // namespace

long mount_overlay(const char* target, const OverlaySpec& spec) {
  if (spec.layers.size > kMaxLayers) return -E2BIG;
  Layers open;
  if (const long r = open_layers(spec.cover, spec.layers, spec.fds, open); r < 0) return r;
  Options options;
  for (uint32_t i = 0; i < open.size; ++i) options.add(i == 0 ? "lowerdir=" : ":", open.fds[i]);
  if (spec.upper >= 0) {
    options.add(",upperdir=", spec.upper);
    options.add(",workdir=", spec.work);
  }
  if (spec.options != nullptr) {
    options.add(",");
    options.add(spec.options);
  }
  if (options.cut()) return -E2BIG;
  // Whoever needs a working directory sets it.
  if (const long r = sys::call(SYS_chdir, sys::arg("/proc/self/fd")); r < 0) return r;
  return mount_named("overlay", target, spec.attributes, options.text());
}

}  // namespace pyminicon::child
