// Descriptors, and their names in /proc.
#pragma once

#include "base/syscall.h"
#include "base/text.h"

namespace pyminicon::child {

// A descriptor that closes itself. Negative: -errno.
class Fd {
 public:
  explicit Fd(long value) : value_(static_cast<int>(value)) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd(Fd&& other) noexcept : value_(other.value_) { other.value_ = -1; }
  ~Fd() {
    if (value_ >= 0) sys::close(value_);
  }
  int get() const { return value_; }
  bool failed() const { return value_ < 0; }
  int release() {
    const int value = value_;
    value_ = -1;
    return value;
  }

 private:
  int value_;
};

// "/proc/self/fd/N": overlay takes only names, and a layer's own may hold the ':' and ',' that
// separate them.
class FdName {
 public:
  explicit FdName(int fd) { size = append_number(text, append(text, 0, "/proc/self/fd/"), fd); }
  const char* number() const {
    return text + kDirectory;
  }  // from /proc/self/fd as working directory

  static constexpr uint32_t kDirectory = 14;
  char text[32];
  uint32_t size = 0;
};

}  // namespace pyminicon::child
