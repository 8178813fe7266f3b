// The thread that carries the bytes of published ports and of what a proxy has let through.
//
// One in a process, with a descriptor table of its own: what it has open counts for nobody's limit
// but its own, and no fork of the caller's inherits any of it. It knows no GIL, and carries bytes
// by splice, from socket to socket. What it serves of a container ends when its pid 1 does.
#pragma once

#include <cstdint>
#include <vector>

#include "parent/process/fd.h"

namespace pyminicon::parent {

struct Published {
  int listener;   // outside; stays the caller's
  uint16_t port;  // inside
};

// What is served of one container's network. Thread-safe but for the making and the end.
class Gate {
 public:
  // Throws LaunchFailure. `proxied`: connections to the container's own listener come through
  // line(), as a byte with a descriptor.
  explicit Gate(const std::vector<Published>& published);
  int birth() const { return birth_.get(); }  // for the child, which tells of itself through it
  void born() { birth_.reset(); }             // it has its own copy, or there will be none
  int line() const { return line_.get(); }
  // Two connected sockets, each of which is to have what the other says; they stay the caller's.
  bool carry(int one, int other) const;
  // All of it ends, and is gone when this returns, if the thread gets to it in time.
  void end(int64_t deadline);

 private:
  Fd birth_, line_;
};

}  // namespace pyminicon::parent
