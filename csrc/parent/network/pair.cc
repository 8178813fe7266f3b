#include "parent/network/pair.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/plan.h"

namespace pyminicon::parent {
namespace {

constexpr int kPipeSize = 256 << 10;  // what the kernel gives an ordinary user is up to him
// At most in one turn. More than the pipe's size, which counts a page for each of its places: what
// comes from a socket lies there in runs of them.
constexpr size_t kMostAtOnce = 1 << 20;
constexpr size_t kMostFree = 64;
constexpr int kTurns = 8;  // of one pair, before others have theirs

// Whether both its ends are on one machine.
bool is_near(int fd) {
  sockaddr_storage here{}, there{};
  socklen_t size = sizeof here, other_size = sizeof there;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) < 0) return false;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&there), &other_size) < 0) return false;
  const bool v6 = here.ss_family == AF_INET6;
  const size_t at = v6 ? offsetof(sockaddr_in6, sin6_addr) : offsetof(sockaddr_in, sin_addr);
  const size_t count = v6 ? sizeof(in6_addr) : sizeof(in_addr);
  const auto* one = reinterpret_cast<const char*>(&here) + at;
  return std::memcmp(one, reinterpret_cast<const char*>(&there) + at, count) == 0;
}

// Whoever has written it has waited for more already (Nagle's algorithm): to wait once more would
// be for an acknowledgement that the reader delays. And a congestion control that paces (bbr) keeps
// bytes waiting for a bottleneck, of which there is none between two programs of one machine.
void send_at_once(int fd) {
  constexpr int kOn = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &kOn, sizeof kOn);
  if (is_near(fd)) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kUnpaced, sizeof kUnpaced - 1);
}

}  // namespace

Pair::Pair(int one, int other) : sockets_{one, other} {
  for (const int fd : sockets_) send_at_once(fd);
}

Pipes::~Pipes() {
  for (Ends& ends : free_) drop(ends);
}

bool Pipes::take(Ends& ends) {
  if (!free_.empty()) {
    ends = free_.back();
    free_.pop_back();
    return true;
  }
  int made[2];
  if (pipe2(made, O_CLOEXEC | O_NONBLOCK) < 0) return false;
  fcntl(made[1], F_SETPIPE_SZ, kPipeSize);
  ends = {made[0], made[1]};
  return true;
}

void Pipes::give(Ends& ends) {
  if (ends.read < 0) return;
  if (free_.size() == kMostFree) {
    drop(ends);
    return;
  }
  free_.push_back(ends);
  ends = {};
}

void Pipes::drop(Ends& ends) {
  if (ends.read >= 0) ::close(ends.read);
  if (ends.write >= 0) ::close(ends.write);
  ends = {};
}

// What has ended in an error on one side doesn't look like a good end on the other.
Pair::~Pair() {
  for (Direction& direction : directions_) Pipes::drop(direction.pipe);
  const linger reset{1, 0};
  for (const int fd : sockets_) {
    if (broken_) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    ::close(fd);
  }
}

Pair::Step Pair::fill(Direction& direction, int from, Pipes& pipes) {
  if (direction.pipe.read < 0 && !pipes.take(direction.pipe)) return Step::kStarved;
  constexpr unsigned kFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
  const ssize_t got = splice(from, nullptr, direction.pipe.write, nullptr, kMostAtOnce, kFlags);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? Step::kBlocked : Step::kBroken;
  direction.held = static_cast<uint32_t>(got);
  direction.ended = got == 0;
  return Step::kMoved;
}

Pair::Step Pair::move(Direction& direction, int from, int to, Pipes& pipes) {
  if (direction.told) return Step::kBlocked;
  if (direction.held == 0 && !direction.ended) {
    const Step filled = fill(direction, from, pipes);
    if (filled != Step::kMoved) {
      pipes.give(direction.pipe);
      return filled;
    }
  }
  while (direction.held > 0) {
    constexpr unsigned kFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
    const ssize_t sent = splice(direction.pipe.read, nullptr, to, nullptr, direction.held, kFlags);
    if (sent < 0) return errno == EAGAIN || errno == EINTR ? Step::kBlocked : Step::kBroken;
    direction.held -= static_cast<uint32_t>(sent);
  }
  if (direction.ended) {
    direction.told = true;
    ::shutdown(to, SHUT_WR);  // what fails has gone, which the other direction finds out
  }
  pipes.give(direction.pipe);
  return Step::kMoved;
}

Pair::State Pair::carry(Pipes& pipes) {
  for (int turn = 0; turn < kTurns; ++turn) {
    bool moved = false;
    for (int i = 0; i < 2; ++i) {
      const Step step = move(directions_[i], sockets_[i], sockets_[1 - i], pipes);
      if (step == Step::kBroken) {
        broken_ = true;
        return State::kEnded;
      }
      if (step == Step::kStarved) return State::kStarved;
      moved |= step == Step::kMoved;
    }
    if (directions_[0].told && directions_[1].told) return State::kEnded;
    if (!moved) return State::kWaits;
  }
  return State::kGoesOn;
}

}  // namespace pyminicon::parent
