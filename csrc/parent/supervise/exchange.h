// What is said to a running program and what comes of it: its input, and its outputs, counted, kept
// or passed on. A step at a time, of what is ready; whoever waits for that (poll, an event loop)
// and closes it is another's matter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pyminicon::parent {

// What has come through a pipe so far, in pieces: a gigabyte must not be copied at each growth.
class Output {
 public:
  // From now on no more than so much is kept, its first and its last half.
  void trim(uint64_t most) { most_ = most; }
  // From now on nothing is kept: it goes on into the pipe `fd`, without being copied. Whoever takes
  // it has SIGPIPE blocked: that pipe's reader may have gone.
  void pass_on(int fd) { to_ = fd; }
  bool passes_on() const { return to_ >= 0; }
  uint64_t taken() const { return taken_; }
  uint64_t dropped() const { return taken_ - size_ - ring_.size(); }
  // Takes what is there, `room` bytes at the most; false at the end of the stream, and when nobody
  // is left to whom it could be passed on.
  bool take_from(int fd, uint64_t& room);
  uint64_t size() const { return size_ + ring_.size(); }
  void copy_to(char* to) const;

 private:
  void keep(const char* bytes, size_t count);
  void keep_last(const char* bytes, size_t count);

  std::vector<std::string> pieces_;
  uint64_t size_ = 0, taken_ = 0, most_ = UINT64_MAX;
  std::string ring_;  // of what is trimmed the last half, its beginning at ring_at_
  size_t ring_at_ = 0;
  int to_ = -1;
};

class Exchange {
 public:
  static constexpr int kOutput = 1, kError = 2;  // as the descriptors are numbered

  Exchange() = default;
  // `input` must outlive it. `most`: bytes of both outputs together, or, trimmed, that are kept of
  // each.
  Exchange(std::string_view input, uint64_t most, bool trim);

  // Writes what `fd` takes; false when there is nothing more to write, or nobody who reads.
  bool feed(int fd);
  // `which` isn't kept: it goes on into the pipe `fd`.
  void pass_on(int which, int fd) { outputs_[which - 1].pass_on(fd); }
  // Takes what is there; false at its end (take_from), and once more has come than may.
  bool read(int which, int fd);
  // Takes what is there in all, and not what comes meanwhile: whoever has the write end may go on.
  // True where some is left, for which there is no room as yet in the pipe that it goes on to.
  bool drain(int which, int fd);
  bool spent() const { return room_ == 0; }  // not a byte more may come,
  bool full() const { return full_; }        // and one has
  const Output& of(int which) const { return outputs_[which - 1]; }

 private:
  std::string_view input_;
  Output outputs_[2];
  uint64_t room_ = UINT64_MAX;
  bool full_ = false;
};

}  // namespace pyminicon::parent
