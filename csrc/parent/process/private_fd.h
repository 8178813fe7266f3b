// A descriptor that a forked child doesn't inherit. Close-on-exec doesn't help where a program
// forks workers: each would keep what the descriptor stands for, for as long as it lives.
#pragma once

#include <utility>

namespace pyminicon::parent {

class PrivateFd {
 public:
  PrivateFd() = default;
  // Takes over `fd`; closes it, and is empty, where no more can be kept private.
  explicit PrivateFd(int fd);
  PrivateFd(PrivateFd&& other) noexcept : slot_(std::exchange(other.slot_, -1)) {}
  PrivateFd& operator=(PrivateFd&& other) noexcept {
    reset();
    slot_ = std::exchange(other.slot_, -1);
    return *this;
  }
  ~PrivateFd() { reset(); }
  int get() const;  // -1 when empty, and in a forked child
  explicit operator bool() const { return get() >= 0; }
  void reset();

 private:
  int slot_ = -1;
};

// In a forked child, before anything else: closes them all.
void close_private_fds();

}  // namespace pyminicon::parent
