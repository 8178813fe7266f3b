#include "parent/plan/witness.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace pyminicon::parent {
namespace {

bool stands(const Witness& seen) {
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

}  // namespace

bool all_stand(const std::vector<Witness>& seen) {
  return std::all_of(seen.begin(), seen.end(), stands);
}

}  // namespace pyminicon::parent
