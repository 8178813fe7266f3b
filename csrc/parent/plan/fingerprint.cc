#include "parent/plan/fingerprint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/kernel.h"
#include "parent/files/fd.h"

namespace pyminicon::parent {
namespace {

bool stands(const Fingerprint& seen) {
  struct stat now{};
  if (fstatat(AT_FDCWD, seen.path.c_str(), &now, seen.follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
    return !seen.there && errno == ENOENT;
  }
  if (!seen.there || now.st_mode != seen.mode || now.st_uid != seen.uid || now.st_gid != seen.gid) {
    return false;
  }
  const bool same_file = seen.inode == 0 || (now.st_ino == seen.inode && now.st_dev == seen.device);
  return same_file && now.st_rdev == seen.rdev;
}

// AT_STATX_DONT_SYNC: what the kernel knows, and no question to a server that may not answer.
bool looks_as(const Fingerprint& seen, int dir, const char* path, int flags, uint64_t device) {
  struct statx now{};
  if (statx(dir, path, flags | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &now) < 0) {
    return !seen.there && errno == ENOENT;
  }
  if (!seen.there || now.stx_mode != seen.mode || now.stx_uid != seen.uid ||
      now.stx_gid != seen.gid || makedev(now.stx_dev_major, now.stx_dev_minor) != device) {
    return false;
  }
  const bool same_file = seen.inode == 0 || now.stx_ino == seen.inode;
  return same_file && makedev(now.stx_rdev_major, now.stx_rdev_minor) == seen.rdev;
}

// The image's directory, if the kernel has the way to it in memory (RESOLVE_CACHED, Linux 5.12).
// The kernel also answers EAGAIN when a mount or a rename anywhere came in between: asked again, it
// tells the two apart.
Fd cached_directory(const std::string& path) {
  constexpr int kTries = 4;
  const kernel::OpenHow how{O_PATH | O_DIRECTORY | O_CLOEXEC, 0, kernel::kResolveCached};
  for (int tries = 1;; ++tries) {
    Fd dir(
        static_cast<int>(syscall(kernel::kSysOpenat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
    if (dir || errno != EAGAIN || tries == kTries) return dir;
  }
}

}  // namespace

// The directory itself is looked up in what the kernel remembers: the way there may lead over any
// file system. Once it is the same as then, what lies in it is on the same one; where another is
// mounted in it, a directory's device tells before anything below it is asked for: they come in
// their order.
bool all_stand_at_once(const std::vector<Fingerprint>& seen) {
  if (seen.empty()) return false;
  const Fingerprint& image = seen.front();
  const Fd dir = cached_directory(image.path);
  if (!dir || !looks_as(image, dir.get(), "", AT_EMPTY_PATH, image.device)) return false;
  return std::all_of(seen.begin() + 1, seen.end(), [&image](const Fingerprint& one) {
    return looks_as(one, AT_FDCWD, one.path.c_str(), AT_SYMLINK_NOFOLLOW, image.device);
  });
}

bool all_stand(const std::vector<Fingerprint>& seen) {
  return std::all_of(seen.begin(), seen.end(), stands);
}

}  // namespace pyminicon::parent
