// The launcher's own side: see csrc/parent/process/launcher.h. It is a process in the caller's
// memory, on a stack of its own, with a descriptor table of its own.
#pragma once

#include <stdint.h>

#include "base/kernel.h"

namespace pyminicon::child {

// One birth. Lies in the memory of the thread that asks and waits for the answer.
struct BirthOrder {
  static constexpr int kMost = 1024, kMostInMessage = 250, kLimits = 16;  // SCM_MAX_FD is 253
  kernel::CloneArgs args;
  void (*entry)(void*);
  void* argument;
  int count;                    // of the descriptors that come beside it, the cgroup the last
  int32_t numbers[kMost];       // the caller's numbers of all but the last
  int32_t received[kMost];      // the launcher's
  uint64_t limits[kLimits][2];  // setrlimit(2)'s, soft and hard
  uint32_t schedule[16];        // struct sched_attr
  uint64_t processors[128];     // 8,192 of them, as many as a kernel is built for
  int processors_size;
  long result;
};

struct LauncherMemory {
  char stack[64 << 10];
  char born[128 << 10];  // the children's stack: one at a time
  alignas(64) char thread[4096];
  int socket;
};

// Serves orders until the other end of the socket is closed: by the caller's end or its exec.
void serve_births(void* memory);

}  // namespace pyminicon::child
