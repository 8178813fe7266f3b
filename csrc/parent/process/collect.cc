#include "parent/process/collect.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/kernel.h"
#include "child/mount.h"
#include "parent/process/failure.h"
#include "parent/process/plain_file.h"

namespace pyminicon::parent {

Pipe make_socketpair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    throw LaunchFailure(errno, Stage::kPrepare, "socketpair");
  }
  return {Fd(ends[0]), Fd(ends[1])};
}

void receive_pair(int socket, Fd& first, Fd& second) {
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  char byte;
  iovec data{&byte, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != 1) return;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(2 * sizeof(int))) {
    return;
  }
  int fds[2];
  std::memcpy(fds, CMSG_DATA(header), sizeof fds);
  first = Fd(fds[0]);
  second = Fd(fds[1]);
}

namespace {

constexpr char kRegularOnly[] = "only a regular file, reached without a link, is collected";

// Where the kernel makes up what is read, for whoever reads it: that is us, on the host. Who may
// mount can lay such a file over the one that is collected.
bool is_made_up(int fd) {
  constexpr uint32_t kMadeUp[] = {PROC_SUPER_MAGIC,
                                  SYSFS_MAGIC,
                                  CGROUP_SUPER_MAGIC,
                                  CGROUP2_SUPER_MAGIC,
                                  DEBUGFS_MAGIC,
                                  TRACEFS_MAGIC,
                                  SECURITYFS_MAGIC,
                                  BPF_FS_MAGIC,
                                  EFIVARFS_MAGIC,
                                  PSTOREFS_MAGIC,
                                  SELINUX_MAGIC,
                                  SMACK_MAGIC,
                                  NSFS_MAGIC,
                                  BINFMTFS_MAGIC,
                                  RDTGROUP_SUPER_MAGIC,
                                  0x62656570 /* configfs */,
                                  0x67596969 /* rpc_pipefs */,
                                  0x65735543 /* fusectl */};
  struct statfs info{};
  if (fstatfs(fd, &info) < 0) return true;
  const auto type = static_cast<uint32_t>(info.f_type);
  return std::find(std::begin(kMadeUp), std::end(kMadeUp), type) != std::end(kMadeUp);
}

}  // namespace

std::optional<std::string> collect_file(int root, const std::string& path, uint64_t max) {
  const size_t start = path.find_first_not_of('/');
  const std::string relative = start == std::string::npos ? "." : path.substr(start);
  const Way way{
      root, relative, O_NOFOLLOW,
      kernel::kResolveBeneath | kernel::kResolveNoSymlinks | kernel::kResolveNoMagiclinks};
  const Fd found = find_plain(way);
  if (!found) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw LaunchFailure(errno, Stage::kCollect, path, kRegularOnly);
  }
  if (is_made_up(found.get())) {
    throw LaunchFailure(EINVAL, Stage::kCollect, path, "it is a file of the kernel's, as in /proc");
  }
  const Fd file = open_found(found, way);
  if (!file) throw LaunchFailure(errno, Stage::kCollect, path);
  std::optional<std::string> bytes = read_at_most(file.get(), max);
  if (bytes) return bytes;
  throw LaunchFailure(
      errno, Stage::kCollect, path,
      errno == EFBIG ? "more than collect_max, " + std::to_string(max) + " bytes" : std::string());
}

void put_file(int root, const std::string& path, const std::string& bytes, uint32_t mode,
              uint32_t uid, uint32_t gid) {
  const auto fail = [&path](long result) {
    throw LaunchFailure(static_cast<int>(-result), Stage::kMount, path);
  };
  const size_t start = path.find_first_not_of('/');
  const std::string relative = start == std::string::npos ? "" : path.substr(start);
  const size_t slash = relative.rfind('/');
  const std::string above = slash == std::string::npos ? "" : relative.substr(0, slash);
  const std::string name = slash == std::string::npos ? relative : relative.substr(slash + 1);
  const long opened = child::open_or_make(root, above.c_str(), true, 0);
  if (opened < 0) fail(opened);
  const Fd dir(static_cast<int>(opened));
  if (unlinkat(dir.get(), name.c_str(), 0) < 0 && errno != ENOENT) fail(-errno);
  const Fd file(openat(dir.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) fail(-errno);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    if (written < 0) fail(-errno);
    done += static_cast<size_t>(written);
  }
  if ((uid != 0 || gid != 0) && fchown(file.get(), uid, gid) < 0) fail(-errno);
  if (fchmod(file.get(), mode) < 0) fail(-errno);
}

}  // namespace pyminicon::parent
