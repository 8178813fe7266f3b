// The thread that carries the bytes of published ports and of what a proxy has let through.
//
// One in a process, with a descriptor table of its own: what it has open counts for nobody's limit
// but its own, and no fork of the caller's inherits any of it. It knows no GIL, and carries bytes
// by splice, from socket to socket. What it serves of a container ends when its pid 1 does.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "parent/files/fd.h"
#include "parent/network/inside.h"

namespace pyminicon::parent {

struct Begun;  // the thread, as whoever is served knows it

// Descriptors that the thread is going to have. It is they that may run out, and who is to be
// served knows that before anything of it has started.
class Room {
 public:
  explicit Room(std::atomic<uint64_t>& taken) : taken_(taken) {}
  ~Room() { taken_ -= count_; }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  void take(uint32_t count);  // throws LaunchFailure
  uint32_t count() const { return count_; }
  void hand_over() { count_ = 0; }  // the thread has them

 private:
  std::atomic<uint64_t>& taken_;
  uint32_t count_ = 0;
};

struct Listening {
  int error = 0;
  uint16_t port = 0;
};

// What is served of one container's network. Thread-safe but for the making and the publishing.
// The thread isn't woken before the container has begun: a launch needs the processors.
class Gate {
 public:
  // Throws LaunchFailure. `bell`, if not -1: the child leaves a listener in line(). Connections to
  // it come through there, as a byte with a descriptor, and before the first of them number() is
  // sent to that socket.
  explicit Gate(int bell);
  // A listener outside, whose connections wait until they can be led to that port inside.
  Listening publish(const Address& outside, uint16_t inside);
  uint64_t number() const { return number_; }  // of this process's gates
  int64_t since() const { return since_; }
  int line() const { return line_.get(); }
  // It has begun, and the thread takes over, which gets into its network by a pidfd of its pid 1.
  // Throws LaunchFailure, also where it has been ended.
  void born(int pidfd);
  // Two connected sockets, each of which is to have what the other says; they stay the caller's.
  bool carry(int one, int other) const;
  // All of it ends, and is gone when this returns, if the thread gets to it in time.
  void end(int64_t deadline);

 private:
  Begun& relay_;
  Room room_;
  const int bell_;
  const uint64_t number_;
  const int64_t since_;
  Fd line_, inner_;
  std::vector<Fd> listeners_;
  std::vector<uint16_t> ports_;
  std::mutex lock_;
  bool born_ = false, ended_ = false;
};

}  // namespace pyminicon::parent
