// An owned file descriptor.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace pyminicon::parent {

// Never 0, 1 or 2: in a program that has closed those (a daemon) ours would come to lie where the
// container's own streams are put, and be overwritten there, or be taken for them.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int value) : value_(value >= 0 && value <= 2 ? lifted(value) : value) {}
  Fd(Fd&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(std::exchange(other.value_, -1));
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return value_; }
  explicit operator bool() const { return value_ >= 0; }
  int release() { return std::exchange(value_, -1); }
  void reset(int value = -1) {
    if (value_ >= 0) ::close(value_);
    value_ = value;
  }

 private:
  static int lifted(int value) {
    const int higher = fcntl(value, F_DUPFD_CLOEXEC, 3);
    if (higher < 0) return value;
    ::close(value);
    return higher;
  }

  int value_ = -1;
};

struct Pipe {
  Fd read, write;
};

// pipe2(2) with O_CLOEXEC; throws LaunchFailure.
Pipe make_pipe();

}  // namespace pyminicon::parent
