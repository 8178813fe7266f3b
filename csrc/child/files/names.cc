#include "child/files/names.h"

#include "base/kernel.h"
#include "base/syscall.h"
#include "base/text.h"
#include "child/fd.h"

namespace pyminicon::child {
namespace {

constexpr int kMostLinks = 40;  // the kernel's own limit
constexpr int kMostTries = 16;
constexpr uint32_t kMostTarget = 4096;

// Whether a name that is there leads to something; -ENOENT: a link to nothing.
long leads_somewhere(const Root& root, const char* name) {
  const Fd found(open_name(root, name, O_PATH));
  return found.failed() ? found.get() : 0;
}

}  // namespace

OwnName::OwnName(int fd) { append_number(text, append(text, 0, "self/fd/"), fd); }

long open_name(const Root& root, const char* name, int flags, uint32_t mode) {
  const kernel::OpenHow how{static_cast<uint64_t>(flags | O_CLOEXEC), mode,
                            root.resolve | kernel::kResolveNoMagiclinks};
  const char* const path = name[0] == 0 ? "." : name;
  long result = -EAGAIN;
  // EAGAIN: a rename somewhere raced with the walk; the kernel asks to try again (openat2(2)).
  for (int tries = 0; result == -EAGAIN && tries < kMostTries; ++tries) {
    result = sys::call(kernel::kSysOpenat2, root.dir, sys::arg(path), sys::arg(&how), sizeof how);
  }
  return result;
}

long open_parent(const Root& root, char* name, const char** last) {
  uint32_t size = 0, slash = 0;
  bool found = false;
  for (; name[size] != 0; ++size) {
    if (name[size] != '/') continue;
    slash = size;
    found = true;
  }
  *last = name;
  if (!found) return open_name(root, "", O_PATH | O_DIRECTORY);
  *last = name + slash + 1;
  if (slash == 0) return open_name(root, "/", O_PATH | O_DIRECTORY);
  name[slash] = 0;
  return open_name(root, name, O_PATH | O_DIRECTORY);
}

// O_NONBLOCK: for whoever holds a lease on the file the kernel would let us wait for a minute.
long open_again(int proc, int fd, int flags) {
  if (proc < 0) return -ENOSYS;
  return sys::openat(proc, OwnName(fd).text, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

namespace {

long create_from(const Root& root, char* name, int flags, uint32_t mode, int links) {
  if (links > kMostLinks) return -ELOOP;
  const char* last = nullptr;
  const Fd parent(open_parent(root, name, &last));
  if (parent.failed()) return parent.get();
  constexpr int kNew = O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  const long made = sys::openat(parent.get(), last, flags | kNew, static_cast<int>(mode));
  const bool beneath = (root.resolve & kernel::kResolveBeneath) != 0;
  if (made != -EEXIST || beneath || (flags & O_EXCL) != 0) return made;
  const Root here{parent.get(), root.resolve};
  if (leads_somewhere(here, last) != -ENOENT) return made;
  char target[kMostTarget];
  const long size =
      sys::call(SYS_readlinkat, parent.get(), sys::arg(last), sys::arg(target), kMostTarget - 1);
  if (size < 0) return size == -ENOENT || size == -EINVAL ? -EEXIST : size;
  target[size] = 0;
  return create_from(here, target, flags, mode, links + 1);
}

}  // namespace

long create_file(const Root& root, char* name, int flags, uint32_t mode) {
  return create_from(root, name, flags, mode, 0);
}

}  // namespace pyminicon::child
