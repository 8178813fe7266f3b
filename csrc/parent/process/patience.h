// Work that a file system may hold for ever: done in a thread of its own, waited for with a
// deadline, left alone at it.
#pragma once

#include <cstdint>
#include <functional>

namespace pyminicon::parent {

// Nanoseconds of CLOCK_MONOTONIC.
int64_t now_ns();
constexpr int64_t kNever = INT64_MAX;
constexpr int64_t kMillisecond = 1000000;

// Called when a signal has interrupted a wait; throws to give up (Ctrl-C).
using Interrupted = std::function<void()>;

// The set-up was given up at its deadline; everything is undone.
struct SetupTimeout {};

// How long somebody waits, and what ends it before: `cancel` readable, or `interrupted` throwing.
struct Patience {
  int64_t deadline = kNever;
  int cancel = -1;
  Interrupted interrupted = {};
};

// Calls `work` in a thread that nobody waits for and that takes no signal; in this one where no
// thread can be had. It may not throw and may hold nothing that isn't its own.
void set_to_work(const std::function<void()>& work);

// True when `work` has returned; what it throws is thrown here. False at the end of the patience:
// it goes on then, and what it holds goes with it when it ends.
bool done_within(const Patience& patience, std::function<void()> work);

// Sleeps until `fd` is readable; false at the end of the patience, or after `most_ms`.
bool readable_within(const Patience& patience, int fd, int most_ms = -1);

}  // namespace pyminicon::parent
