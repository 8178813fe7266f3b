// What ends a container by itself: what is looked at, and when.
#pragma once

#include <poll.h>

#include <cstdint>

#include "parent/launch/launch.h"

namespace pyminicon::parent {

enum class Limit { kNone, kMemory, kWallTime, kCpuTime, kOutput };
const char* limit_name(Limit limit);  // null for kNone

struct Limits {
  int64_t wall = kNever;  // deadline, CLOCK_MONOTONIC ns
  double cpu = 0;         // seconds, 0: none

  // The soonest moment at which one of the two could be reached.
  int64_t next() const;
  // Which of the two is reached at the moment `now`.
  Limit reached(const Cgroup* cgroup, int64_t now);

 private:
  bool out_of_cpu_time(const Cgroup& cgroup, int64_t now);

  int64_t look_at_ = 0;  // at the CPU time that was used
};

// To be waited for: the cgroup tells of a kill for memory. Without a descriptor where none does.
pollfd memory_event(const Cgroup* cgroup);
// What it has told of was one. v1 tells of an event before it kills, v2 of any event of the file:
// it is looked at what happened.
bool killed_for_memory(Cgroup& cgroup);
// Of one that has ended: by which limit, if `noticed` meanwhile was none.
Limit limit_of_ended(const Launched& container, Limit noticed);

}  // namespace pyminicon::parent
