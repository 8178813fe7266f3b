// How a program finds its signals.
#pragma once

#include <signal.h>

#include "base/syscall.h"

namespace pyminicon {

// All as they are by default; ignored ones as well, which clone and exec keep, and Python ignores
// SIGPIPE and SIGXFSZ.
inline long reset_signal_actions() {
  constexpr int kSignals = 64;
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    uint64_t mask;
  } action{};
  for (int number = 1; number <= kSignals; ++number) {
    if (number == SIGKILL || number == SIGSTOP) continue;
    const long result =
        sys::call(SYS_rt_sigaction, number, sys::arg(&action), 0, sizeof action.mask);
    if (result < 0) return result;
  }
  return 0;
}

}  // namespace pyminicon
