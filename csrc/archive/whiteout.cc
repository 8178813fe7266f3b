// OCI image specification, "Whiteouts", into what overlayfs takes for them.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "archive/error.h"
#include "archive/tree.h"

namespace pyminicon::archive {
namespace {

constexpr std::string_view kOpaque = ".wh..wh..opq";

}  // namespace

// True when the member was one, or belongs to the book-keeping of those who made the layer.
bool Tree::add_whiteout(const Header& header, const Place& at) {
  if (at.path.starts_with(".wh..wh.") || at.path.find("/.wh..wh.") != std::string::npos) {
    if (at.name == kOpaque) make_opaque(parent_of(at), at.path);
    return true;
  }
  if (!at.name.starts_with(kWhiteout)) {
    if (at.path.starts_with(kWhiteout) || at.path.find("/.wh.") != std::string::npos) {
      throw ArchiveError(at.path + ": something in a whiteout");
    }
    return false;
  }
  const std::string hidden = at.name.substr(kWhiteout.size());
  if (hidden.empty() || hidden == "." || hidden == "..") {
    throw ArchiveError(at.path + ": a whiteout that names no file");
  }
  // Some tools write every empty file but the first as a hard link.
  if (header.type != '0' && header.type != '1')
    throw ArchiveError(at.path + ": a whiteout that isn't a plain file");
  const int parent = parent_of(at);
  // A character device 0:0; anybody may make one since Linux 5.8.
  if (mknodat(parent, hidden.c_str(), S_IFCHR, 0) == 0) return true;
  if (errno != EEXIST) throw failed(at.path, errno);
  // The layer has something of this name itself, which stays. A directory must not be merged with
  // the one it replaces.
  const Fd there(openat(parent, hidden.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (there) make_opaque(there.get(), at.path);
  return true;
}

void Tree::make_opaque(int directory, const std::string& path) {
  // Both spellings: an overlay mounted in a user namespace reads user.*, any other trusted.*. The
  // first is for root of the machine alone, the second not for tmpfs before Linux 6.6.
  const bool trusted = fsetxattr(directory, "trusted.overlay.opaque", "y", 1, 0) == 0;
  const int error = errno;
  const bool user = fsetxattr(directory, "user.overlay.opaque", "y", 1, 0) == 0;
  if (!user && !trusted) throw failed(path, rules_.own ? error : errno);
}

}  // namespace pyminicon::archive
