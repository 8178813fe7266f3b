#include "parent/supervise/exchange.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pyminicon::parent {
namespace {

constexpr size_t kLargest = 1 << 20;  // of the pieces

// A write into a pipe whose reader has gone raises SIGPIPE; an embedding program need not ignore
// it.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before_);
  }
  ~WithoutSigpipe() {
    if (sigismember(&before_, SIGPIPE) == 0) {
      sigset_t pipe;
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      const timespec none{};
      while (sigtimedwait(&pipe, nullptr, &none) > 0) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_;
};

bool comes_again() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

bool Output::take_from(int fd, uint64_t& room) {
  char buffer[65536];
  const size_t want = std::min<uint64_t>(sizeof buffer, room);
  const ssize_t got =
      passes_on() ? splice(fd, nullptr, to_, nullptr, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
                  : ::read(fd, buffer, want);
  if (got < 0) return comes_again();
  if (got == 0) return false;
  const auto count = static_cast<uint64_t>(got);
  taken_ += count;
  room -= count;
  if (passes_on()) return true;
  const uint64_t first = most_ == UINT64_MAX ? count : std::min(count, most_ - most_ / 2 - size_);
  keep(buffer, first);
  if (first < count) keep_last(buffer + first, count - first);
  return true;
}

void Output::keep(const char* bytes, size_t count) {
  size_ += count;
  while (count > 0) {
    if (pieces_.empty() || pieces_.back().capacity() == pieces_.back().size()) {
      // Small first: most outputs are a line, and a fresh page costs more than the read.
      const size_t piece = pieces_.empty() ? 4096 : pieces_.size() == 1 ? 65536 : kLargest;
      pieces_.emplace_back().reserve(piece);
    }
    std::string& piece = pieces_.back();
    const size_t part = std::min(count, piece.capacity() - piece.size());
    piece.append(bytes, part);
    bytes += part;
    count -= part;
  }
}

void Output::keep_last(const char* bytes, size_t count) {
  const auto room = static_cast<size_t>(most_ / 2);
  if (count > room) {  // of these alone only the last count
    bytes += count - room;
    count = room;
  }
  const size_t grown = std::min(count, room - ring_.size());
  ring_.append(bytes, grown);
  for (size_t at = grown; at < count;) {
    const size_t part = std::min(count - at, ring_.size() - ring_at_);
    ring_.replace(ring_at_, part, bytes + at, part);
    ring_at_ = (ring_at_ + part) % ring_.size();
    at += part;
  }
}

void Output::copy_to(char* to) const {
  for (const std::string& piece : pieces_) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
  std::memcpy(to, ring_.data() + ring_at_, ring_.size() - ring_at_);
  std::memcpy(to + ring_.size() - ring_at_, ring_.data(), ring_at_);
}

Exchange::Exchange(std::string_view input, uint64_t most, bool trim)
    : input_(input), room_(trim ? UINT64_MAX : most) {
  if (!trim) return;
  for (Output& output : outputs_) output.trim(most);
}

bool Exchange::feed(int fd) {
  if (input_.empty()) return false;
  const WithoutSigpipe guard;
  const ssize_t written = ::write(fd, input_.data(), input_.size());
  if (written < 0) return comes_again();
  input_.remove_prefix(static_cast<size_t>(written));
  return !input_.empty();
}

bool Exchange::read(int which, int fd) {
  if (full_) return false;
  if (!spent()) return outputs_[which - 1].take_from(fd, room_);
  char too_much;
  const ssize_t got = ::read(fd, &too_much, 1);
  full_ = got > 0;
  return got < 0 && comes_again();
}

bool Exchange::drain(int which, int fd) {
  int there = 0;
  if (ioctl(fd, FIONREAD, &there) < 0) return false;
  for (auto left = static_cast<uint64_t>(there); left > 0;) {
    const uint64_t before = outputs_[which - 1].taken();
    if (!read(which, fd)) return false;
    const uint64_t got = outputs_[which - 1].taken() - before;
    if (got == 0) return outputs_[which - 1].passes_on();
    left -= std::min(left, got);
  }
  return false;
}

}  // namespace pyminicon::parent
