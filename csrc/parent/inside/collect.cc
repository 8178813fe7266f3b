#include "parent/inside/collect.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>
#include <new>

#include "base/kernel.h"
#include "base/message.h"
#include "child/mounts/mount.h"
#include "parent/failure.h"
#include "parent/files/plain_file.h"

namespace pyminicon::parent {

int receive_pair(int socket, Fd& first, Fd& second) {
  char byte;
  int fds[2];
  const MakingFds making;
  const Received came = receive_message(socket, &byte, 1, fds, 2, MSG_DONTWAIT);
  if (came.bytes < 0) return static_cast<int>(-came.bytes);
  const Fd alone(came.fds == 1 ? fds[0] : -1);
  if (came.bytes != 1 || came.fds != 2) return EMFILE;
  first = Fd(fds[0]);
  second = Fd(fds[1]);
  return 0;
}

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

namespace {

constexpr char kRegularOnly[] = "only a regular file, reached without a link, is collected";

Collected refused(int error, const std::string& hint = {}) { return {{}, error, hint}; }

}  // namespace

// A container that is dead can't exchange the file between the look and the reading.
Collected collect_file(int root, const std::string& path, uint64_t max) {
  const size_t start = path.find_first_not_of('/');
  const std::string relative = start == std::string::npos ? "." : path.substr(start);
  const Way way{
      root, relative, O_NOFOLLOW,
      kernel::kResolveBeneath | kernel::kResolveNoSymlinks | kernel::kResolveNoMagiclinks};
  const Fd found = find_plain(way);
  if (!found) {
    const bool none = errno == ENOENT || errno == ENOTDIR || errno == EACCES;
    return refused(errno, none ? "" : kRegularOnly);
  }
  if (is_made_up(found.get())) return refused(EINVAL, "it is a file of the kernel's, as in /proc");
  const Fd file = open_found(found, way);
  if (!file) return refused(errno);
  std::optional<std::string> bytes = read_at_most(file.get(), max);
  if (bytes) return {std::move(*bytes), 0, {}};
  const int error = errno;
  if (error != EFBIG) return refused(error);
  return refused(error, "more than collect_max, " + std::to_string(max) + " bytes");
}

namespace {

// What the threads have in common that take files out. Each takes the next path.
struct Collecting {
  Fd root;
  std::vector<std::string> paths;
  uint64_t max = 0;
  Fd event{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};  // readable when there is news
  std::mutex lock;
  size_t next = 0, done = 0;
  std::vector<Collected> found;

  void work();
};

void Collecting::work() {
  std::unique_lock guard(lock);
  while (next < paths.size()) {
    const size_t mine = next++;
    guard.unlock();
    Collected one;
    try {
      one = collect_file(root.get(), paths[mine], max);
    } catch (const std::bad_alloc&) {
      one.error = ENOMEM;
    }
    guard.lock();
    found[mine] = std::move(one);
    ++done;
    const uint64_t news = 1;
    [[maybe_unused]] const ssize_t written = ::write(event.get(), &news, sizeof news);
  }
}

}  // namespace

std::vector<Collected> collect_files(int root, const std::vector<std::string>& paths, uint64_t max,
                                     const Patience& patience) {
  constexpr int kSlowMs = 200;  // a thread that got nowhere for so long may never
  constexpr int kQuiet = 50;    // so often in a row, and no more is waited for
  constexpr size_t kThreads = 8;
  const auto all = std::make_shared<Collecting>();
  all->root = Fd(fcntl(root, F_DUPFD_CLOEXEC, 3));
  all->paths = paths;
  all->max = max;
  if (!all->root || !all->event) return {paths.size(), refused(errno)};
  all->found.assign(paths.size(), refused(ETIMEDOUT, "its file system doesn't answer"));
  if (paths.empty()) return {};
  size_t threads = 0;
  for (int quiet = 0; quiet < kQuiet;) {
    bool more;
    {
      const std::lock_guard guard(all->lock);
      if (all->done == paths.size()) break;
      more = all->next < paths.size() && threads < kThreads;
    }
    if (more && (threads == 0 || quiet > 0)) {
      ++threads;
      set_to_work([all] { all->work(); });
    }
    const bool news = readable_within(patience, all->event.get(), kSlowMs);
    uint64_t count;
    if (news && ::read(all->event.get(), &count, sizeof count) > 0) {
      quiet = 0;
    } else if (now_ns() >= patience.deadline) {
      break;
    } else {
      ++quiet;
    }
  }
  const std::lock_guard guard(all->lock);
  if (all->done == paths.size()) return std::move(all->found);  // nobody is at it any more
  return all->found;
}

namespace {

void put_file(int root, const FileToPut& file_to_put) {
  const auto& [path, bytes, mode, uid, gid] = file_to_put;
  const auto fail = [&subject = file_to_put.path](long result) {
    throw LaunchFailure(static_cast<int>(-result), Stage::kMount, subject);
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

}  // namespace

void put_files(int root, std::vector<FileToPut> files, const Patience& patience) {
  const auto own = std::make_shared<Fd>(fcntl(root, F_DUPFD_CLOEXEC, 3));
  if (!*own) throw LaunchFailure(errno, Stage::kPrepare, "descriptor of the root");
  const bool done = done_within(patience, [own, files = std::move(files)] {
    for (const FileToPut& file : files) put_file(own->get(), file);
  });
  if (!done) throw SetupTimeout{};
}

}  // namespace pyminicon::parent
