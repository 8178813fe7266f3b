#include "parent/process/private_fd.h"

#include <unistd.h>

#include <atomic>

#include "parent/process/fd.h"

namespace pyminicon::parent {
namespace {

// Atomics and no lock: the child of a fork may be made while another thread is in here.
constexpr int kSlots = 256;
constexpr int kFree = 0, kTaken = -1;  // else the descriptor, which is never 0
std::atomic<int> slots[kSlots];

int take_slot() {
  for (int i = 0; i < kSlots; ++i) {
    int free = kFree;
    if (slots[i].load(std::memory_order_relaxed) == kFree &&
        slots[i].compare_exchange_strong(free, kTaken)) {
      return i;
    }
  }
  return -1;
}

}  // namespace

PrivateFd::PrivateFd(int fd) {
  Fd held(fd);
  if (!held) return;
  slot_ = take_slot();
  if (slot_ >= 0) slots[slot_] = held.release();
}

int PrivateFd::get() const {
  const int fd = slot_ < 0 ? kFree : slots[slot_].load(std::memory_order_relaxed);
  return fd > 0 ? fd : -1;
}

void PrivateFd::reset() {
  if (slot_ < 0) return;
  const int fd = slots[slot_].exchange(kFree);
  if (fd > 0) ::close(fd);
  slot_ = -1;
}

// The slots stay taken, by the objects that were copied with the memory.
void close_private_fds() {
  for (auto& slot : slots) {
    const int fd = slot.load(std::memory_order_relaxed);
    if (fd <= 0) continue;
    slot = kTaken;
    ::close(fd);
  }
}

}  // namespace pyminicon::parent
