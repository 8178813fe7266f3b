#include "parent/files/plain_file.h"

#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "base/kernel.h"

namespace pyminicon::parent {
namespace {

Fd open_as(const Way& way, uint64_t flags) {
  const kernel::OpenHow how{flags | way.flags, 0, way.resolve};
  return Fd(
      static_cast<int>(syscall(kernel::kSysOpenat2, way.dir, way.path.c_str(), &how, sizeof how)));
}

Fd none(int error) {
  errno = error;
  return {};
}

bool same(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

}  // namespace

Fd find_plain(const Way& way) {
  Fd found = open_as(way, O_PATH | O_CLOEXEC);
  struct stat about;
  if (!found || fstat(found.get(), &about) < 0) return {};
  if (S_ISLNK(about.st_mode)) return none(ELOOP);
  if (S_ISDIR(about.st_mode)) return none(EISDIR);
  return S_ISREG(about.st_mode) ? std::move(found) : none(EINVAL);
}

Fd open_found(const Fd& found, const Way& way) {
  constexpr uint64_t kRead = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  // The thread's own table: it may not share the process's.
  const std::string name = "/proc/thread-self/fd/" + std::to_string(found.get());
  Fd file = open_as({AT_FDCWD, name, 0, 0}, kRead);
  if (file || errno != ENOENT) return file;
  // A caller without /proc: by the way once more, and it must be the same.
  file = open_as(way, kRead);
  struct stat about, now;
  if (!file || fstat(found.get(), &about) < 0 || fstat(file.get(), &now) < 0) return {};
  return same(about, now) ? std::move(file) : none(EINVAL);
}

Fd open_plain(const Way& way) {
  const Fd found = find_plain(way);
  return found ? open_found(found, way) : Fd();
}

std::optional<std::string> read_at_most(int file, uint64_t max) {
  std::string bytes;
  char buffer[65536];
  for (;;) {
    const uint64_t room = max + 1 - bytes.size();
    const ssize_t got = ::read(file, buffer, std::min<uint64_t>(sizeof buffer, room));
    if (got < 0) return std::nullopt;
    if (got == 0) return bytes;
    bytes.append(buffer, static_cast<size_t>(got));
    if (bytes.size() > max) {
      errno = EFBIG;
      return std::nullopt;
    }
  }
}

std::optional<std::string> read_in_root(const std::string& root, const std::string& path,
                                        uint64_t max) {
  const Fd dir(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return std::nullopt;
  const uint64_t own_mount = root == "/" ? 0 : kernel::kResolveNoXdev;
  const Fd file = open_plain(
      {dir.get(), path, 0, kernel::kResolveInRoot | kernel::kResolveNoMagiclinks | own_mount});
  return file ? read_at_most(file.get(), max) : std::nullopt;
}

}  // namespace pyminicon::parent
