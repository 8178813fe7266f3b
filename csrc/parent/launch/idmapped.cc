#include "parent/launch/idmapped.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/kernel.h"
#include "base/message.h"
#include "parent/failure.h"
#include "parent/files/fd.h"
#include "parent/process/standing.h"

namespace pyminicon::parent {
namespace {

bool is(const struct stat& found, const Inode& expected) {
  return found.st_ino == expected.inode && major(found.st_dev) == expected.device_major &&
         minor(found.st_dev) == expected.device_minor;
}

// Left out for want of a descriptor, a source would be mounted with the host's ids.
void insist_on_resources(const std::string& path) {
  if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
    throw LaunchFailure(errno, Stage::kUserns, path);
  }
}

class Sources {
 public:
  explicit Sources(int userns) : userns_(userns) {}

  void add(int32_t key, const std::string& path, bool recursive, bool follow, uint64_t attributes,
           const Inode& expected = {}) {
    const unsigned nofollow = follow ? 0 : kernel::kAtSymlinkNofollow;
    const unsigned flags = kernel::kOpenTreeClone | kernel::kOpenTreeCloexec | nofollow |
                           (recursive ? kernel::kAtRecursive : 0);
    Fd tree(static_cast<int>(syscall(kernel::kSysOpenTree, AT_FDCWD, path.c_str(), flags)));
    struct stat info;
    if (!tree) insist_on_resources(path);
    // What isn't there or is a link the child finds out by itself, and says so with its name.
    if (!tree || fstat(tree.get(), &info) < 0 || S_ISLNK(info.st_mode)) return;
    if (expected.inode != 0 && !is(info, expected)) return;
    const kernel::MountAttr attribute{kernel::kMountAttrIdmap | attributes, 0, kernel::kMsPrivate,
                                      static_cast<uint64_t>(userns_)};
    const unsigned at = kernel::kAtEmptyPath | (recursive ? kernel::kAtRecursive : 0);
    if (syscall(kernel::kSysMountSetattr, tree.get(), "", at, &attribute, sizeof attribute) < 0) {
      insist_on_resources(path);
      return;  // a file system that can't map ids
    }
    keys.push_back(key);
    trees.push_back(std::move(tree));
  }

  std::vector<int32_t> keys;
  std::vector<Fd> trees;

 private:
  int userns_;
};

void collect(const PlanSpec& spec, const std::vector<OpSpec>& mounts, Sources& sources) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    sources.add(static_cast<int32_t>(i), spec.layers[i], false, true, 0);
  }
  for (size_t i = 0; i < mounts.size(); ++i) {
    const OpSpec& op = mounts[i];
    if (op.kind != OpKind::kBind && op.kind != OpKind::kOverlay) continue;
    const uint64_t attributes = kernel::kMountAttrNodev |
                                (op.flags & kOpSetuid ? 0 : kernel::kMountAttrNosuid) |
                                (op.flags & kOpReadOnly ? kernel::kMountAttrRdonly : 0);
    const bool bind = op.kind == OpKind::kBind;
    sources.add(kMappedOp + static_cast<int32_t>(i), *op.source,
                bind && (op.flags & kOpRecursive) != 0, !bind || (op.flags & kOpFollow) != 0,
                bind ? attributes : 0, op.expected);
  }
}

void send(int socket, const std::vector<int32_t>& keys, const std::vector<Fd>& trees) {
  constexpr int32_t kNone = -1;
  std::vector<int> fds;
  for (const Fd& tree : trees) fds.push_back(tree.get());
  const void* const bytes = trees.empty() ? &kNone : keys.data();
  const size_t size = (trees.empty() ? 1 : keys.size()) * sizeof(int32_t);
  const long sent = send_message(socket, bytes, size, fds.data(), static_cast<uint32_t>(fds.size()),
                                 MSG_NOSIGNAL);
  if (sent < 0) throw LaunchFailure(static_cast<int>(-sent), Stage::kUserns, "");
}

}  // namespace

void send_go(int socket, const PlanSpec& spec, const std::vector<OpSpec>& mounts, int pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/user";
  const Fd userns(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Sources sources(userns.get());
  if (userns && is_root()) collect(spec, mounts, sources);
  send(socket, sources.keys, sources.trees);
}

}  // namespace pyminicon::parent
