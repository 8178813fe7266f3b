// What runs in a container, read from its procfs by its init. The child's side of the house: no
// libc.
#pragma once

#include <stdint.h>

#include "base/syscall.h"

namespace pyminicon::child {

struct Process {
  int32_t pid, parent;
  char state;  // the letter of proc_pid_stat(5)
  bool alone;  // no thread beside its first
  bool doomed;
};

// Room for as many as there may be; a few pages of it are ever touched.
class Processes {
 public:
  static constexpr uint32_t kMost = 1 << 18;

  Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;
  ~Processes();

  bool failed() const { return all == nullptr; }
  // Of those in the order of their pids, as procfs lists them.
  const Process* find(int32_t pid) const;

  Process* all = nullptr;
  uint32_t count = 0;
};

// All there are, in the order of their pids. Answers 0 or -errno.
long take_census(int proc, Processes& processes);

// One more at the end of `processes`: 1, or 0 for one that has just gone, or -errno.
long look_at(int proc, int32_t pid, Processes& processes);

// The children of all threads of a process are handed to `each`, until that answers less than 0.
// 0, or its answer, or -errno where the kernel keeps no such list (CONFIG_PROC_CHILDREN).
long list_children(int proc, const Process& process, long (*each)(int32_t child, void* to),
                   void* to);

// The first thread of a process may have ended and the others go on: it looks like a zombie then.
inline bool is_alive(const Process& process) {
  return (process.state != 'Z' && process.state != 'X') || !process.alone;
}

inline bool is_stopped(const Process& process) {
  return process.state == 'T' || process.state == 't';
}

}  // namespace pyminicon::child
