// Feeding, draining and waiting for one container: what subprocess calls communicate().
#pragma once

#include <functional>
#include <string_view>

#include "parent/launch/launch.h"
#include "parent/supervise/exchange.h"
#include "parent/supervise/limits.h"

namespace pyminicon::parent {

struct RunLimits : Limits {
  int64_t timeout = kNever;            // deadline, CLOCK_MONOTONIC ns: the caller's own
  uint64_t output = UINT64_MAX;        // bytes, both streams together
  bool trim = false;                   // no more is kept of either, instead of an end
  int cancel = -1;                     // readable: as at the timeout
  std::function<void()> lasting = {};  // called once, when it has run for kLasting
};

// Longer than nearly all containers that somebody makes a template for, in ns.
constexpr int64_t kLasting = 3000000;

struct Streams {
  Fd input, output, error;  // the parent's ends; empty where there is no pipe
};

struct Outcome {
  Exchange exchange;
  Limit limit = Limit::kNone;
  bool timed_out = false;
};

// Whether it is this thread in which Python's handlers run.
bool gets_signals();

// How long poll() may wait for `deadline`, in ms, -1 for ever. In the main thread half a second at
// most: a signal that comes just before poll(), or to another thread, interrupts nothing.
int wait_ms(int64_t deadline);

// Returns when the container has ended and been reaped, by itself, at a limit or at the timeout
// (then killed). `input` must outlive the call.
void supervise(Launched& container, Streams& streams, std::string_view input,
               const RunLimits& limits, const Interrupted& interrupted, Outcome& outcome);

}  // namespace pyminicon::parent
