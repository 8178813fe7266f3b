// A socket made where another process is: in its network, or at a name of its file system.
#pragma once

#include <stdint.h>

namespace pyminicon::child {

struct SocketInside {
  int target;              // a pidfd of whoever is there
  uint64_t place;          // CLONE_NEWNET, or CLONE_NEWNS for a name
  bool listens;            // else it connects, without waiting for it
  const void* address;     // of the family that it is to have
  uint32_t size;           //
  int fd = -1;             // what has come of it
  int32_t error = 0;       // errno; EINPROGRESS with a socket
  bool was_there = false;  // else it couldn't go there
};

// In a process of its own, with the caller's memory and descriptors, where all signals are blocked.
[[noreturn]] void make_inside(SocketInside& wish);

}  // namespace pyminicon::child
