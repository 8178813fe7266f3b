#include "parent/files/fd.h"

#include <sys/socket.h>

#include <cerrno>

#include "parent/failure.h"

namespace pyminicon::parent {

void KeptFd::keep(Fd fd) {
  reset();
  if (fd && mark_file(fd.get(), file_) && note_kept_fd(fd.get(), file_)) fd_ = fd.release();
}

bool KeptFd::there() const { return fd_ >= 0 && is_still(fd_, file_); }

Fd KeptFd::release() {
  const bool ours = there();
  forget_kept_fd(fd_);
  const int fd = std::exchange(fd_, -1);
  return Fd(ours ? fd : -1);
}

Pipe make_pipe(int flags) {
  int ends[2];
  const MakingFds making;
  if (pipe2(ends, O_CLOEXEC | flags) < 0) throw LaunchFailure(errno, Stage::kPrepare, "pipe2");
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
