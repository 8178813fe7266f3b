#include "child/files/files.h"

#include <linux/magic.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/directory.h"
#include "base/kernel.h"
#include "base/message.h"
#include "base/syscall.h"
#include "child/fd.h"
#include "child/files/names.h"
#include "child/files/tree.h"

namespace pyminicon::child {
namespace {

constexpr unsigned kTypeMask = 0170000, kRegular = 0100000, kDirectory = 0040000, kLink = 0120000;

// Where nobody but the kernel serves a file, whoever has it open can't be held by it.
bool never_hangs(uint64_t magic, bool trust_overlay) {
  constexpr uint32_t kLocal[] = {
      TMPFS_MAGIC,          RAMFS_MAGIC,      EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,
      BTRFS_SUPER_MAGIC,    F2FS_SUPER_MAGIC, SQUASHFS_MAGIC,   0xE0F5E1E2 /* EROFS */,
      0x2fc12fc1 /* ZFS */, 0xca451a4e /* bcachefs */};
  if (magic == OVERLAYFS_SUPER_MAGIC) return trust_overlay;
  for (const uint32_t local : kLocal) {
    if (magic == local) return true;
  }
  return false;
}

long type_of(int fd) {
  struct statx info{};
  const long r =
      sys::call(SYS_statx, fd, sys::arg(""), kernel::kAtEmptyPath, STATX_TYPE, sys::arg(&info));
  return r < 0 ? r : info.stx_mode & kTypeMask;
}

int64_t nanoseconds(const statx_timestamp& time) { return time.tv_sec * 1000000000 + time.tv_nsec; }

class Server {
 public:
  Server(int socket, int proc) : socket_(socket), proc_(proc) {}

  [[noreturn]] void serve() {
    for (;;) {
      receive();
      const auto op = static_cast<FileOp>(asked_.op);
      if (op != FileOp::kMore) let_go(listed_);
      if (op != FileOp::kPump) let_go(opened_);
      const bool goes_on = op == FileOp::kMore || op == FileOp::kPump || has(kBeneath);
      if (!goes_on) let_go(base_);
      size_ = 0;
      out_ = -1;
      answer_ = FileAnswer::kDone;
      const long result = act(op);
      reply(result);
    }
  }

 private:
  void receive() {
    int came = -1;
    Received got{};
    do {
      got = receive_message(socket_, request_, sizeof request_, &came, 1, 0);
    } while (got.bytes == -EINTR);
    const long size = got.bytes;
    if (size < static_cast<long>(sizeof asked_)) sys::exit_group(0);  // nobody asks any more
    asked_ = *reinterpret_cast<const FileRequest*>(request_);
    const uint64_t names = uint64_t{asked_.first} + asked_.second;
    if (asked_.first == 0 || names + sizeof asked_ != static_cast<uint64_t>(size)) {
      sys::exit_group(1);
    }
    first_ = request_ + sizeof asked_;
    second_ = first_ + asked_.first;
    request_[size - 1] = second_[-1] = 0;
    let_go(pipe_);
    if (got.fds > 0) pipe_ = came;
  }

  void reply(long result) {
    auto& head = *reinterpret_cast<FileReply*>(reply_);
    head = {result < 0 ? static_cast<int32_t>(-result) : 0, static_cast<uint32_t>(answer_)};
    const unsigned long size = sizeof head + (result < 0 ? 0 : size_);
    const uint32_t fds = out_ >= 0 && result >= 0 ? 1 : 0;
    const long sent = send_message(socket_, reply_, size, &out_, fds, MSG_NOSIGNAL);
    let_go(out_);
    if (sent < 0) sys::exit_group(0);
  }

  long act(FileOp op) {
    switch (op) {
      case FileOp::kStat:
        return stat();
      case FileOp::kOpen:
        return open();
      case FileOp::kPump:
        return pump();
      case FileOp::kReadlink:
        return readlink();
      case FileOp::kList:
        return list();
      case FileOp::kMore:
        return more();
      case FileOp::kChmod:
        return change_mode();
      case FileOp::kTouch:
        return touch();
      case FileOp::kRmtree:
        return rmtree();
      case FileOp::kBase:
        return take_base();
      default:
        return change_entry(op);
    }
  }

  bool has(uint32_t flag) const { return (asked_.flags & flag) != 0; }

  Root root() const {
    if (!has(kBeneath)) return {AT_FDCWD, 0};
    const uint64_t links = has(kNoLinks) ? kernel::kResolveNoSymlinks : 0;
    return {base_, kernel::kResolveBeneath | links};
  }

  long find(int flags) const {
    return open_name(root(), first_, flags | (has(kNoFollow) ? O_NOFOLLOW : 0));
  }

  // ---- what is there

  long stat() {
    const Fd found(find(O_PATH));
    if (found.failed()) return found.get();
    struct statx info{};
    const long r = sys::call(SYS_statx, found.get(), sys::arg(""), kernel::kAtEmptyPath,
                             STATX_BASIC_STATS, sys::arg(&info));
    if (r < 0) return r;
    const auto device = [](uint32_t major, uint32_t minor) {  // as the C library packs them
      return (uint64_t{minor} & 0xff) | (uint64_t{major} & 0xfff) << 8 |
             (uint64_t{minor} & ~0xffU) << 12 | (uint64_t{major} & ~0xfffU) << 32;
    };
    *reinterpret_cast<FileStat*>(body()) = {
        info.stx_ino,
        device(info.stx_dev_major, info.stx_dev_minor),
        info.stx_nlink,
        info.stx_size,
        info.stx_blocks,
        nanoseconds(info.stx_atime),
        nanoseconds(info.stx_mtime),
        nanoseconds(info.stx_ctime),
        info.stx_mode,
        info.stx_uid,
        info.stx_gid,
        info.stx_blksize,
        static_cast<uint32_t>(device(info.stx_rdev_major, info.stx_rdev_minor)),
        0};
    size_ = sizeof(FileStat);
    return 0;
  }

  long readlink() {
    const Root from = root();
    const Fd link(open_name(from, first_, O_PATH | O_NOFOLLOW));
    if (link.failed()) return link.get();
    const long size =
        sys::call(SYS_readlinkat, link.get(), sys::arg(""), sys::arg(body()), kMostBody);
    if (size == -ENOENT) return -EINVAL;  // so the kernel says of what is no link
    if (size >= 0) size_ = static_cast<uint32_t>(size);
    return size;
  }

  long list() {
    const long found = find(O_RDONLY | O_DIRECTORY);
    if (found < 0) return found;
    listed_ = static_cast<int>(found);
    return more();
  }

  long more() {
    if (listed_ < 0) return -EBADF;
    while (size_ <= kMostNames) {
      const long got = sys::call(SYS_getdents64, listed_, sys::arg(entries_), sizeof entries_);
      if (got < 0 && size_ == 0) return got;
      if (got <= 0) return 0;
      for (long at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries_ + at);
        at += entry->size;
        put_entry(*entry);
      }
    }
    answer_ = FileAnswer::kMoreToCome;
    return 0;
  }

  void put_entry(const DirectoryEntry& entry) {
    const char* const name = entry.name;
    if (entry.is_dots()) return;
    char* to = body() + size_;
    *to++ = static_cast<char>(entry.type);
    uint32_t i = 0;
    for (; name[i] != 0; ++i) to[i] = name[i];
    to[i] = 0;
    size_ += i + 2;
  }

  // ---- open

  static constexpr int kModes = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND;

  long open() {
    const int flags = asked_.open_flags & kModes;
    constexpr int kTries = 16;  // somebody may make and remove it all the time
    for (int i = 0; i < kTries; ++i) {
      if ((flags & O_CREAT) != 0) {
        char name[kMostName];
        copy_first(name);
        const long made = create_file(root(), name, flags, asked_.mode);
        if (made >= 0) return hand_out(static_cast<int>(made), 0, true);
        if (made != -EEXIST || (flags & O_EXCL) != 0) return made;
      }
      const long found = find(O_PATH);
      if (found == -ENOENT && (flags & O_CREAT) != 0) continue;
      if (found < 0) return found;
      return hand_out(static_cast<int>(found), flags & ~(O_CREAT | O_EXCL), false);
    }
    return -EBUSY;
  }

  void copy_first(char* name) const {
    for (uint32_t i = 0; i < asked_.first && i < kMostName; ++i) name[i] = first_[i];
    name[kMostName - 1] = 0;
  }

  // What it is gets known before anything is opened: to open a device or a pipe is to act on it.
  long hand_out(int fd, int flags, bool open_already) {
    Fd file(fd);
    const long type = type_of(fd);
    if (type == kDirectory) return -EISDIR;
    if (type == kLink) return -ELOOP;
    if (type != kRegular) return type < 0 ? type : -EOPNOTSUPP;
    struct statfs system{};
    if (const long r = sys::call(SYS_fstatfs, fd, sys::arg(&system)); r < 0) return r;
    if (!never_hangs(static_cast<uint32_t>(system.f_type), !has(kDistrustOverlay))) {
      answer_ = FileAnswer::kPipe;
      opened_ = file.release();
      is_open_ = open_already;
      return 0;
    }
    const long out = open_already ? file.release() : open_again(proc_, fd, flags);
    if (out < 0) return out;
    out_ = static_cast<int>(out);
    return make_blocking(out_);
  }

  static long make_blocking(int fd) {
    const long flags = sys::fcntl(fd, F_GETFL);
    return flags < 0 ? flags : sys::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  }

  // With the pipe whoever is at its other end hears that there is no more, also where it comes to
  // nothing; the reason is in the reply.
  long pump() {
    const long result = opened_ < 0 || pipe_ < 0 ? -EBADF : pump_all();
    let_go(pipe_);
    return result;
  }

  long pump_all() {
    const int flags = asked_.open_flags & kModes & ~(O_CREAT | O_EXCL);
    Fd file(is_open_ ? opened_ : open_again(proc_, opened_, flags));
    if (!is_open_) sys::close(opened_);
    opened_ = -1;
    if (file.failed()) return file.get();
    long r = make_blocking(file.get());
    const bool reads = (flags & O_ACCMODE) == O_RDONLY;
    if (r >= 0) r = reads ? copy(file.get(), pipe_) : copy(pipe_, file.get());
    let_go(pipe_);
    const long closed = sys::close(file.release());  // a file system may say only now what failed
    return r < 0 ? r : closed;
  }

  long copy(int from, int to) {
    for (;;) {
      const long got = sys::read(from, reply_, sizeof reply_);
      if (got == -EINTR) continue;
      if (got <= 0) return got;
      for (long done = 0; done < got;) {
        const long wrote = sys::write(to, reply_ + done, static_cast<unsigned long>(got - done));
        if (wrote < 0) return wrote;
        done += wrote;
      }
    }
  }

  // ---- changes

  long change_mode() {
    const Fd found(find(O_PATH));
    if (found.failed()) return found.get();
    const long type = type_of(found.get());
    if (type < 0 || type == kLink) return type < 0 ? type : -EOPNOTSUPP;
    return sys::call(SYS_fchmodat, proc_, sys::arg(OwnName(found.get()).text), asked_.mode);
  }

  long touch() {
    const Fd found(find(O_PATH));
    if (found.failed()) return found.get();
    const int64_t second = 1000000000;
    const int64_t rest = (asked_.time % second + second) % second;
    const long times[] = {(asked_.time - rest) / second, rest, (asked_.time - rest) / second, rest};
    return sys::call(SYS_utimensat, found.get(), sys::arg(""),
                     has(kGivenTime) ? sys::arg(times) : 0, kernel::kAtEmptyPath);
  }

  long rmtree() {
    const long r = remove_some(root(), first_, entries_, sizeof entries_);
    if (r > 0) answer_ = FileAnswer::kMoreToCome;
    return r;
  }

  long take_base() {
    const long found = open_name({AT_FDCWD, 0}, first_, O_PATH | O_DIRECTORY);
    if (found < 0) return found;
    let_go(base_);
    base_ = static_cast<int>(found);
    return 0;
  }

  long change_entry(FileOp op) {
    const char* last = nullptr;
    const Fd dir(open_parent(root(), first_, &last));
    if (dir.failed()) return dir.get();
    const long name = sys::arg(last);
    switch (op) {
      case FileOp::kMkdir:
        return sys::mkdirat(dir.get(), last, asked_.mode);
      case FileOp::kUnlink:
        return sys::call(SYS_unlinkat, dir.get(), name, 0);
      case FileOp::kRmdir:
        return sys::call(SYS_unlinkat, dir.get(), name, 0x200);
      case FileOp::kSymlink:
        return sys::call(SYS_symlinkat, sys::arg(second_), dir.get(), name);
      case FileOp::kRename:
      case FileOp::kLink:
        break;
      default:
        return -ENOSYS;
    }
    const char* last_of_second = nullptr;
    const Fd other(open_parent(root(), second_, &last_of_second));
    if (other.failed()) return other.get();
    const long second = sys::arg(last_of_second);
    if (op == FileOp::kLink) {
      return sys::call(SYS_linkat, other.get(), second, dir.get(), name, 0);
    }
    return sys::call(SYS_renameat2, dir.get(), name, other.get(), second, 0);
  }

  // ----

  static void let_go(int& fd) {
    if (fd >= 0) sys::close(fd);
    fd = -1;
  }

  char* body() { return reply_ + sizeof(FileReply); }

  const int socket_, proc_;
  int base_ = -1, listed_ = -1, opened_ = -1, pipe_ = -1, out_ = -1;
  bool is_open_ = false;
  FileRequest asked_{};
  FileAnswer answer_ = FileAnswer::kDone;
  char *first_ = nullptr, *second_ = nullptr;
  uint32_t size_ = 0;  // of what the answer says
  alignas(8) char request_[kMostRequest];
  alignas(8) char reply_[kMostReply];
  alignas(8) char entries_[kMostNames];
};

}  // namespace

// Whoever has this user's rights inside may kill this process, but not look into it: a change of
// user has made it dumpable again, where the machine's fs.suid_dumpable says so.
void serve_files(int socket, int proc) {
  const uint64_t all = ~0ULL;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all), 0, sizeof all);
  if (sys::prctl(PR_SET_DUMPABLE, 0) < 0) sys::exit_group(1);
  Server(socket, proc).serve();
}

}  // namespace pyminicon::child
