#include "parent/collect.h"

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
#include "parent/failure.h"

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

std::string read_up_to(int fd, const std::string& path, uint64_t max) {
  std::string bytes;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0) throw LaunchFailure(errno, Stage::kCollect, path);
    if (got == 0) return bytes;
    bytes.append(buffer, static_cast<size_t>(got));
    if (bytes.size() > max) {
      throw LaunchFailure(EFBIG, Stage::kCollect, path,
                          "more than collect_max, " + std::to_string(max) + " bytes");
    }
  }
}

}  // namespace

// O_NONBLOCK: opening a FIFO must not wait for its writer. A container that is dead can't exchange
// the file between the check and the read.
std::optional<std::string> collect_file(int root, const std::string& path, uint64_t max) {
  const size_t start = path.find_first_not_of('/');
  const std::string relative = start == std::string::npos ? "." : path.substr(start);
  const kernel::OpenHow how{
      O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW, 0,
      kernel::kResolveBeneath | kernel::kResolveNoSymlinks | kernel::kResolveNoMagiclinks};
  // A device node on a nodev mount, or a socket, can't even be opened: ask for its type first.
  kernel::OpenHow look = how;
  look.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
  const Fd found(
      static_cast<int>(syscall(kernel::kSysOpenat2, root, relative.c_str(), &look, sizeof look)));
  if (!found) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw LaunchFailure(errno, Stage::kCollect, path, kRegularOnly);
  }
  struct stat info;
  if (fstat(found.get(), &info) < 0) throw LaunchFailure(errno, Stage::kCollect, path);
  if (!S_ISREG(info.st_mode)) {
    const int error = S_ISLNK(info.st_mode) ? ELOOP : S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    throw LaunchFailure(error, Stage::kCollect, path, kRegularOnly);
  }
  if (is_made_up(found.get())) {
    throw LaunchFailure(EINVAL, Stage::kCollect, path, "it is a file of the kernel's, as in /proc");
  }
  const Fd fd(
      static_cast<int>(syscall(kernel::kSysOpenat2, root, relative.c_str(), &how, sizeof how)));
  if (!fd) throw LaunchFailure(errno, Stage::kCollect, path);
  return read_up_to(fd.get(), path, max);
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

std::optional<std::string> read_in_root(const std::string& root, const std::string& path,
                                        uint64_t max) {
  const Fd dir(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return std::nullopt;
  const kernel::OpenHow how{O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0,
                            kernel::kResolveInRoot | kernel::kResolveNoMagiclinks};
  const Fd fd(
      static_cast<int>(syscall(kernel::kSysOpenat2, dir.get(), path.c_str(), &how, sizeof how)));
  struct stat info;
  if (!fd || fstat(fd.get(), &info) < 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  std::string bytes(static_cast<size_t>(max) + 1, 0);
  size_t used = 0;
  while (used < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + used, bytes.size() - used);
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    used += static_cast<size_t>(got);
  }
  if (used > max) return std::nullopt;
  bytes.resize(used);
  return bytes;
}

}  // namespace pyminicon::parent
