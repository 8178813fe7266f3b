#include "child/mounts/mount.h"

#include <linux/limits.h>
#include <sys/stat.h>

#include "base/syscall.h"

namespace pyminicon::child {

using namespace kernel;

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

// One component of a path: a directory, or an empty file. It may be there already.
long make_in(int dir, const char* name, bool directory) {
  const long made = directory
                        ? sys::mkdirat(dir, name, 0755)
                        : sys::openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (made < 0) return made == -EEXIST ? 0 : made;
  if (!directory) sys::close(static_cast<int>(made));
  return 0;
}

// `path` up to a component's end, and from there a component less or more.
class Prefix {
 public:
  long set(const char* path) {
    while (path[size_] != 0) {
      if (size_ + 1 == sizeof text_) return -ENAMETOOLONG;
      text_[size_] = path[size_];
      ++size_;
    }
    while (size_ > 0 && path[size_ - 1] == '/') --size_;
    end_ = size_;
    path_ = path;
    return 0;
  }
  void shorten() {
    while (end_ > 0 && text_[end_ - 1] != '/') --end_;
    while (end_ > 0 && text_[end_ - 1] == '/') --end_;
    text_[end_] = 0;
  }
  // Returns the component that has come to it.
  const char* lengthen() {
    for (; path_[end_] == '/'; ++end_) text_[end_] = '/';
    const char* name = text_ + end_;
    for (; end_ < size_ && path_[end_] != '/'; ++end_) text_[end_] = path_[end_];
    text_[end_] = 0;
    return name;
  }
  const char* text() const { return text_; }
  bool is_empty() const { return end_ == 0; }
  bool is_whole() const { return end_ == size_; }

 private:
  const char* path_ = nullptr;
  char text_[PATH_MAX];
  uint32_t size_ = 0, end_ = 0;
};

}  // namespace

// Back to what is there, and on from that: as a rule only the end is missing.
long open_or_make(int root, const char* path, bool directory, uint64_t resolve) {
  const int flags = O_PATH | (directory ? O_DIRECTORY : 0);
  long fd = open_beneath(root, path, flags, resolve);
  if (fd != -ENOENT) return fd;
  Prefix prefix;
  if (const long r = prefix.set(path); r < 0) return r;
  while (fd == -ENOENT && !prefix.is_empty()) {
    prefix.shorten();
    fd = open_beneath(root, prefix.text(), O_PATH | O_DIRECTORY, resolve);
  }
  while (fd >= 0 && !prefix.is_whole()) {
    const Fd dir(fd);
    const char* name = prefix.lengthen();
    const bool as_directory = directory || !prefix.is_whole();
    if (const long r = make_in(dir.get(), name, as_directory); r < 0) return r;
    fd = open_beneath(root, prefix.text(), O_PATH | (as_directory ? O_DIRECTORY : 0), resolve);
  }
  return fd;
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

long attach_as(int mount, int directory, const char* name) {
  return sys::call(kSysMoveMount, mount, sys::arg(""), directory, sys::arg(name),
                   kMoveMountFEmptyPath);
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
