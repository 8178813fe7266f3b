// The limits of containers that nobody waits for: one thread per process, made at first need.
//
// run() holds its limits itself; this is for start(). The thread never touches Python.
#pragma once

#include <memory>
#include <mutex>

#include "parent/launch/launch.h"
#include "parent/supervise/limits.h"

namespace pyminicon::parent {

// A stream on its way from the container to the reader, counted (max_output).
struct Relay {
  Fd from, to;
};

// What the limit thread keeps an eye on. `lock` guards `container`, for the owner's calls as well.
struct Guarded {
  Launched container;
  std::mutex lock;
  Limits limits;
  uint64_t output = UINT64_MAX;  // bytes that may still pass, both streams together
  Relay relays[2];
  Limit limit = Limit::kNone;  // under lock

  bool needs_limit_thread() const;
};

// From now on until `guarded` has ended its limits hold. The limit thread shares it.
void watch_over(std::shared_ptr<Guarded> guarded);

}  // namespace pyminicon::parent
