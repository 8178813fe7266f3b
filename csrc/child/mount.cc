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

namespace {

// fsconfig takes one option at a time; "a=b,c" is cut here.
long configure(int context, const char* options) {
  char word[256];
  uint32_t used = 0, value = 0;
  for (const char* at = options;; ++at) {
    if (*at != ',' && *at != 0) {
      if (used + 1 >= sizeof word) return -ENAMETOOLONG;
      const bool divides = *at == '=' && value == 0;
      word[used++] = divides ? '\0' : *at;
      if (divides) value = used;
      continue;
    }
    word[used] = 0;
    if (used > 0) {
      const long result =
          value != 0 ? sys::call(kSysFsconfig, context, kFsconfigSetString, sys::arg(word),
                                 sys::arg(word + value), 0)
                     : sys::call(kSysFsconfig, context, kFsconfigSetFlag, sys::arg(word), 0, 0);
      if (result < 0) return result;
    }
    if (*at == 0) return 0;
    used = value = 0;
  }
}

long create_and_mount(int context, uint64_t attributes) {
  const long created = sys::call(kSysFsconfig, context, kFsconfigCreate, 0, 0, 0);
  if (created < 0) return created;
  return sys::call(kSysFsmount, context, kFsmountCloexec, static_cast<long>(attributes));
}

}  // namespace

long new_filesystem(const char* type, const char* options, uint64_t attributes) {
  const Fd context(sys::call(kSysFsopen, sys::arg(type), kFsopenCloexec));
  if (context.failed()) return context.get();
  if (options != nullptr) {
    if (const long result = configure(context.get(), options); result < 0) return result;
  }
  return create_and_mount(context.get(), attributes);
}

long mount_named(const char* type, const char* target, uint64_t attributes, const char* options) {
  return sys::call(SYS_mount, sys::arg(type), sys::arg(target), sys::arg(type),
                   static_cast<long>(attributes), sys::arg(options));
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

long set_string(int context, const char* key, const char* value) {
  return sys::call(kSysFsconfig, context, kFsconfigSetString, sys::arg(key), sys::arg(value), 0);
}

constexpr uint32_t kMaxLayers = 500;  // overlayfs's own limit, OVL_MAX_STACK

struct Layers {
  int fds[kMaxLayers + 1];
  uint32_t size = 0;
  ~Layers() {
    for (uint32_t i = 0; i < size; ++i) sys::close(fds[i]);
  }
};

// fsconfig's strings end at 255 bytes: some eighty layers by the bare numbers of their descriptors.
// Above that "lowerdir+" (Linux 6.8).
long set_lower(int context, const Layers& layers) {
  char joined[256];
  uint32_t used = 0;
  for (uint32_t i = 0; i < layers.size; ++i) {
    const FdName name(layers.fds[i]);
    if (used + name.size + 2 - FdName::kDirectory > sizeof joined) {
      for (uint32_t k = 0; k < layers.size; ++k) {
        const long result = set_string(context, "lowerdir+", FdName(layers.fds[k]).text);
        if (result < 0) return result;
      }
      return 0;
    }
    if (used > 0) joined[used++] = ':';
    for (const char* digit = name.number(); *digit != 0; ++digit) joined[used++] = *digit;
  }
  joined[used] = 0;
  return set_string(context, "lowerdir", joined);
}

}  // namespace

long new_overlay(int cover, View<const char*> layers, const int* fds, int upper, int work,
                 const char* options, uint64_t attributes) {
  if (layers.size > kMaxLayers) return -E2BIG;
  Layers open;
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
  const Fd context(sys::call(kSysFsopen, sys::arg("overlay"), kFsopenCloexec));
  if (context.failed()) return context.get();
  // Names are resolved when the file system is created; whoever needs a working directory sets it.
  if (const long r = sys::call(SYS_chdir, sys::arg("/proc/self/fd")); r < 0) return r;
  if (const long result = set_lower(context.get(), open); result < 0) return result;
  if (upper >= 0) {
    if (const long r = set_string(context.get(), "upperdir", FdName(upper).text); r < 0) return r;
    if (const long r = set_string(context.get(), "workdir", FdName(work).text); r < 0) return r;
  }
  if (options != nullptr) {
    if (const long result = configure(context.get(), options); result < 0) return result;
  }
  return create_and_mount(context.get(), attributes);
}

}  // namespace pyminicon::child
