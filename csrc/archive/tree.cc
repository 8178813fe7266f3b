#include "archive/tree.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "archive/error.h"
#include "base/kernel.h"

namespace pyminicon::archive {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
// Names of directories are kept until the end: a stranger may not fill the memory with them.
constexpr uint64_t kMostRemembered = 256u << 20;

timespec time_of(const Header& header) { return {header.mtime, header.mtime_ns}; }

bool is_whiteout(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

// What overlayfs, the kernel's security modules or this machine's labels would read something into
// must not come from an archive.
bool welcome(std::string_view attribute) {
  if (attribute.starts_with("user.")) return !attribute.starts_with("user.overlay.");
  return attribute == "security.capability" || attribute == "system.posix_acl_access" ||
         attribute == "system.posix_acl_default";
}

}  // namespace

// ---- names ---------------------------------------------------------------------------

Tree::Place Tree::place(const std::string& name) const {
  if (name.size() > rules_.max_name) {
    throw ArchiveError("a name of " + std::to_string(name.size()) + " bytes");
  }
  if (name.find('\0') != std::string::npos) throw ArchiveError("a name with a NUL in it");
  Place place;
  uint32_t depth = 0;
  for (size_t at = 0; at < name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    const std::string_view part(name.data() + at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") throw ArchiveError(name + ": a name with '..' in it");
    if (++depth > rules_.max_depth) {
      throw ArchiveError("a path of more than " + std::to_string(rules_.max_depth) +
                         " directories");
    }
    place.parent = place.path;
    place.name = part;
    if (!place.path.empty()) place.path += '/';
    place.path += part;
  }
  return place;
}

Fd Tree::open_inside(const std::string& path) const {
  const kernel::OpenHow how{kDirectory, 0, kernel::kResolveInRoot | kernel::kResolveNoMagiclinks};
  const char* name = path.empty() ? "." : path.c_str();
  // EAGAIN: somebody renamed or mounted something, somewhere, while a ".." was being resolved.
  for (int attempt = 0;; ++attempt) {
    Fd found(static_cast<int>(syscall(kernel::kSysOpenat2, root_, name, &how, sizeof how)));
    if (found || errno != EAGAIN || attempt == 1000) return found;
  }
}

// The directory `path`, made with those above it where the archive didn't care to list them.
Fd Tree::make_way(const std::string& path) const {
  if (Fd there = open_inside(path); there || errno != ENOENT) return there;
  const size_t slash = path.rfind('/');
  const std::string above = slash == std::string::npos ? "" : path.substr(0, slash);
  const Fd parent = make_way(above);
  if (!parent) return Fd();
  const char* name = path.c_str() + (slash == std::string::npos ? 0 : slash + 1);
  if (mkdirat(parent.get(), name, 0755) != 0) return Fd();
  Fd made = open_inside(path);
  // The caller's umask has no say in an image.
  if (made && fchmod(made.get(), 0755) != 0) return Fd();
  return made;
}

int Tree::parent_of(const Place& place) {
  if (!cached_ || cached_path_ != place.parent) {
    cached_ = make_way(place.parent);
    if (!cached_) throw failed(place.path, errno);
    cached_path_ = place.parent;
  }
  return cached_.get();
}

// ---- making --------------------------------------------------------------------------

void Tree::remove(int parent, const std::string& name) {
  if (unlinkat(parent, name.c_str(), 0) == 0) return;
  if (errno != EISDIR) throw failed(name, errno);
  // Only an empty one: an archive has no business with replacing what it has just filled.
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) throw failed(name, errno);
}

template <typename Make>
bool Tree::replacing(int parent, const Place& place, Make make) {
  if (place.name.empty()) throw ArchiveError("the root directory as something else");
  if (make() == 0) return true;
  if (errno == EEXIST) {
    remove(parent, place.name);
    if (make() == 0) return true;
  }
  return false;
}

Fd Tree::add(const Header& header) {
  const Place at = place(header.name);
  // -1 changes no owner (chown(2)): the file would be ours, setuid and all.
  if (header.uid >= UINT32_MAX || header.gid >= UINT32_MAX) {
    throw ArchiveError(at.path + ": an owner that no system has");
  }
  if (at.path.find(kWhiteout) != std::string::npos && add_whiteout(header, at)) return Fd();
  switch (header.type) {
    case '5':
    case 'D':
      add_directory(header, at);
      return Fd();
    case '1':
      add_hard_link(header, at);
      return Fd();
    case '0':
    case '7': {
      const int parent = parent_of(at);
      Fd file;
      const auto make = [&] {
        // 0200: nobody else may look in before the mode is set.
        file = Fd(openat(parent, at.name.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0200));
        return file ? 0 : -1;
      };
      if (!replacing(parent, at, make)) throw failed(at.path, errno);
      return file;
    }
    default:
      add_other(header, at);
      return Fd();
  }
}

void Tree::seal(const Header& header, const Fd& file) {
  const timespec times[2] = {time_of(header), time_of(header)};
  // The owner first: giving a file away takes its setuid bit and its capabilities.
  give(file.get(), "", header.uid, header.gid, header.name);
  if (fchmod(file.get(), header.mode) != 0) throw failed(header.name, errno);
  set_attributes(header.attributes, file.get(), header.name);
  if (futimens(file.get(), times) != 0) throw failed(header.name, errno);
}

void Tree::add_directory(const Header& header, const Place& at) {
  if (!at.name.empty()) {
    const int parent = parent_of(at);
    bool opaque = false;
    if (mkdirat(parent, at.name.c_str(), 0700) != 0) {
      struct stat status;
      if (errno != EEXIST || fstatat(parent, at.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        throw failed(at.path, errno);
      }
      if (!S_ISDIR(status.st_mode)) {
        remove(parent, at.name);
        if (mkdirat(parent, at.name.c_str(), 0700) != 0) throw failed(at.path, errno);
        // Whiteout and directory of one name: what was there before is gone.
        opaque = is_whiteout(status);
      }
    }
    if (opaque) {
      const Fd made(openat(parent, at.name.c_str(), kDirectory | O_NOFOLLOW));
      if (!made) throw failed(at.path, errno);
      make_opaque(made.get(), at.path);
    }
  }
  remembered_ += at.path.size() + sizeof(Directory) + 64;
  for (const auto& [name, value] : header.attributes)
    remembered_ += name.size() + value.size() + 64;
  if (remembered_ > kMostRemembered) throw ArchiveError("more directories than fit into memory");
  directories_[at.path] = {header.mode, header.uid, header.gid, time_of(header), header.attributes};
}

void Tree::add_hard_link(const Header& header, const Place& at) {
  const Place target = place(header.link);
  // The target's directory first, without making one; its last component isn't followed.
  const Fd from = open_inside(target.parent);
  if (!from || target.name.empty()) throw failed(at.path + ": hard link to " + header.link, ENOENT);
  const int parent = parent_of(at);
  struct stat here, there;
  if (fstatat(from.get(), target.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) {
    throw failed(at.path + ": hard link to " + header.link, errno);
  }
  if (fstatat(parent, at.name.c_str(), &here, AT_SYMLINK_NOFOLLOW) == 0 &&
      here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
    return;  // a link to itself: unlinking it first would lose the file
  }
  const auto make = [&] {
    return linkat(from.get(), target.name.c_str(), parent, at.name.c_str(), 0);
  };
  if (!replacing(parent, at, make)) throw failed(at.path + ": hard link to " + header.link, errno);
}

void Tree::add_other(const Header& header, const Place& at) {
  if (header.link.find('\0') != std::string::npos)
    throw ArchiveError(at.path + ": a NUL in a link");
  const int parent = parent_of(at);
  const char* name = at.name.c_str();
  const auto make = [&]() -> int {
    const dev_t device = makedev(header.major, header.minor);
    switch (header.type) {
      case '2':
        return symlinkat(header.link.c_str(), parent, name);
      case '3':
        return mknodat(parent, name, S_IFCHR | 0600, device);
      case '4':
        return mknodat(parent, name, S_IFBLK | 0600, device);
      case '6':
        return mknodat(parent, name, S_IFIFO | 0600, 0);
      default:
        throw ArchiveError(at.path + ": a kind of member that isn't known");
    }
  };
  if (!replacing(parent, at, make)) {
    if (errno == EPERM && (header.type == '3' || header.type == '4')) {
      // An ordinary user may not make devices, nor miss them: /dev is made anew in a container.
      ++devices_left_out_;
      return;
    }
    throw failed(at.path, errno);
  }
  const timespec times[2] = {time_of(header), time_of(header)};
  give(parent, name, header.uid, header.gid, at.path);
  if (header.type != '2' && fchmodat(parent, name, header.mode, 0) != 0)
    throw failed(at.path, errno);
  if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) != 0) throw failed(at.path, errno);
}

// ---- what a file has besides its content ---------------------------------------------

void Tree::set_attributes(const Records& attributes, int fd, const std::string& path) {
  for (const auto& [name, value] : attributes) {
    if (!welcome(name)) continue;
    if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) == 0) continue;
    if (errno != ENOTSUP && errno != EPERM && errno != EINVAL) throw failed(path, errno);
    ++attributes_left_out_;
  }
}

void Tree::give(int parent, const char* name, uint64_t uid, uint64_t gid, const std::string& path) {
  if (!rules_.own) return;
  if (fchownat(parent, name, static_cast<uid_t>(uid), static_cast<gid_t>(gid),
               AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0) {
    return;
  }
  // EINVAL, EPERM: root of a user namespace into which this id isn't mapped.
  if (errno != EINVAL && errno != EPERM) throw failed(path, errno);
  ++owners_left_out_;
}

void Tree::finish() {
  // Backwards, so that a directory closes after those inside it.
  for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
    const auto& [path, meta] = *it;
    const Place at = place(path);
    const Fd parent = open_inside(at.parent);
    const Fd directory(parent ? openat(parent.get(), at.name.empty() ? "." : at.name.c_str(),
                                       kDirectory | O_NOFOLLOW)
                              : -1);
    // A later member may have replaced it.
    if (!directory && (errno == ENOTDIR || errno == ELOOP || errno == ENOENT)) continue;
    if (!directory) throw failed(path, errno);
    const timespec times[2] = {meta.mtime, meta.mtime};
    give(directory.get(), "", meta.uid, meta.gid, path);
    if (fchmod(directory.get(), meta.mode) != 0) throw failed(path, errno);
    set_attributes(meta.attributes, directory.get(), path);
    if (futimens(directory.get(), times) != 0) throw failed(path, errno);
  }
}

}  // namespace pyminicon::archive
