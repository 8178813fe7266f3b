// An owned file descriptor, which no forked child has.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "parent/files/own_fds.h"

namespace pyminicon::parent {

// Never 0, 1 or 2: in a program that has closed those (a daemon) ours would come to lie where the
// container's own streams are put, and be overwritten there, or be taken for them.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int value) { take(value >= 0 && value <= 2 ? lifted(value) : value); }
  Fd(Fd&& other) noexcept
      : value_(std::exchange(other.value_, -1)), generation_(other.generation_) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this == &other) return *this;
    reset();
    value_ = std::exchange(other.value_, -1);
    generation_ = other.generation_;
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return value_; }
  explicit operator bool() const { return value_ >= 0; }
  int release() {
    if (ours()) forget_fd(value_);
    return std::exchange(value_, -1);
  }
  void reset() {
    if (ours()) {
      forget_fd(value_);
      ::close(value_);
    }
    value_ = -1;
  }

 private:
  static int lifted(int value) {
    const int higher = fcntl(value, F_DUPFD_CLOEXEC, 3);
    if (higher < 0) return value;
    ::close(value);
    return higher;
  }
  void take(int value) {
    value_ = value;
    generation_ = fork_generation();
    note_fd(value);
  }
  // In a forked child the number may be somebody else's by now.
  bool ours() const { return value_ >= 0 && generation_ == fork_generation(); }

  int value_ = -1;
  uint64_t generation_ = 0;
};

// One that is kept as long as the process. A program that closes all its descriptors, to become a
// daemon, may have the number for something else by now.
class KeptFd {
 public:
  void keep(Fd fd);
  bool there() const;  // and still what it was
  int get() const { return fd_; }
  Fd release();  // none if it isn't there any more
  void reset() { release(); }

 private:
  int fd_ = -1;
  OpenFile file_;
};

struct Pipe {
  Fd read, write;
};

// pipe2(2) and socketpair(2, SEQPACKET) with O_CLOEXEC; they throw LaunchFailure.
Pipe make_pipe(int flags = 0);
Pipe make_socketpair();

}  // namespace pyminicon::parent
