// The relay's own side of relay.h: what its thread is told, and its life.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pyminicon::parent {

// To the thread, through a container's line; and from it.
constexpr char kCarry = 'p', kEnd = 'e', kAccepted = 'c';

constexpr size_t kMostPublished = 200;

// To the thread: a container to be served. Its descriptors are the other end of its line, its
// pidfd, the bell if there is one, and the listeners of the ports.
struct Order {
  uint64_t number = 0;
  uint32_t room = 0;  // that was taken for it
  uint32_t has_bell = 0;
  uint32_t count = 0;
  uint16_t port[kMostPublished] = {};
};

// Whether no more descriptors are to be had, so many taken. Some are spared for pipes and for what
// is made in between.
bool is_full(uint64_t taken);

// The thread's life, in a descriptor table of its own, of which it keeps one.
void live_as_relay(int orders, std::atomic<uint64_t>& taken);

}  // namespace pyminicon::parent
