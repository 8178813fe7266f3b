#include "parent/process/fd.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>

#include "parent/process/failure.h"

namespace pyminicon::parent {

void KeptFd::keep(Fd fd) {
  reset();
  struct stat info{};
  if (fstat(fd.get(), &info) < 0) return;
  device_ = info.st_dev;
  inode_ = info.st_ino;
  if (note_kept_fd(fd.get(), device_, inode_)) fd_ = fd.release();
}

bool KeptFd::there() const {
  struct stat info{};
  return fd_ >= 0 && fstat(fd_, &info) == 0 && info.st_dev == device_ && info.st_ino == inode_;
}

void KeptFd::reset() {
  const bool ours = there();
  forget_kept_fd(fd_);
  if (ours) ::close(fd_);
  fd_ = -1;
}

Pipe make_pipe() {
  int ends[2];
  const MakingFds making;
  if (pipe2(ends, O_CLOEXEC) < 0) throw LaunchFailure(errno, Stage::kPrepare, "pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

Pipe make_socketpair() {
  int ends[2];
  const MakingFds making;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    throw LaunchFailure(errno, Stage::kPrepare, "socketpair");
  }
  return {Fd(ends[0]), Fd(ends[1])};
}

}  // namespace pyminicon::parent
