// The limits of containers that nobody waits for: one thread per process, made at first need.
//
// run() holds its limits itself; this is for start(). The thread never touches Python.
#pragma once

#include <memory>
#include <mutex>

#include "parent/launch/launch.h"
#include "parent/supervise/supervise.h"

namespace pyminicon::parent {

// What the limit thread keeps an eye on. `lock` guards all of it, for the owner's calls as well.
struct Guarded {
  Launched container;
  std::mutex lock;
  Outcome outcome;
};

// From now on until `guarded` has ended its limits hold, if it has any; what passes through
// `counted` is counted (max_output). The limit thread shares it.
void watch_over(const std::shared_ptr<Guarded>& guarded, const RunLimits& limits, Streams counted);

}  // namespace pyminicon::parent
