// A process that forks, calls setsid and exits can't be caught by killing what one sees: what one
// sees has gone by then, and its child is somewhere else. So everything is stopped first, by one
// kill(-1) of pid 1's: it holds the lock that fork needs, and a process with a signal pending can't
// finish a fork (copy_process), so nothing that it missed comes after it. Then the container is
// looked at while it holds still, what descends is killed, and the others go on.
#include "child/lineage.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "base/syscall.h"

namespace pyminicon::child {
namespace {

struct Process {
  int32_t pid, parent;
  char state;  // the letter of proc_pid_stat(5)
  bool alone;  // no thread beside its first
  bool doomed;
};

constexpr uint32_t kMostProcesses = 1 << 18;

// In the order of their pids, as procfs lists them.
struct Census {
  Process* all = nullptr;
  uint32_t count = 0;

  const Process* find(int32_t pid) const {
    uint32_t low = 0, high = count;
    while (low < high) {
      const uint32_t middle = (low + high) / 2;
      if (all[middle].pid < pid) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < count && all[low].pid == pid ? &all[low] : nullptr;
  }
};

// A few pages of it are ever touched.
class Memory {
 public:
  Memory() {
    const long at = sys::call(SYS_mmap, 0, kSize, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at > 0 || at < -4095) start_ = at;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (start_ != 0) sys::call(SYS_munmap, start_, kSize);
  }
  Process* get() const { return reinterpret_cast<Process*>(start_); }

 private:
  static constexpr long kSize = static_cast<long>(kMostProcesses * sizeof(Process));
  long start_ = 0;
};

int32_t number(const char* text) {
  int32_t value = 0;
  while (*text >= '0' && *text <= '9') value = value * 10 + (*text++ - '0');
  return value;
}

// Where the word number `skipped` behind `text` begins.
const char* word(const char* text, int skipped) {
  while (*text != 0 && skipped > 0) skipped -= *text++ == ' ' ? 1 : 0;
  return text;
}

// "PID (name) STATE PPID …": the name may hold anything, so what counts is behind its last bracket.
bool parse(char* text, long size, Process& process) {
  text[size] = 0;
  long bracket = size - 1;
  while (bracket > 0 && text[bracket] != ')') --bracket;
  if (bracket + 4 >= size) return false;
  constexpr int kParent = 1, kThreads = 17;  // behind the state
  const char* state = text + bracket + 2;
  process = {number(text), number(word(state, kParent)), *state, number(word(state, kThreads)) <= 1,
             false};
  return true;
}

// 1, or 0 for one that has just gone.
long read_process(int proc, const char* name, Process& process) {
  char path[24];
  uint32_t at = 0;
  while (name[at] != 0 && at < 12) {
    path[at] = name[at];
    ++at;
  }
  constexpr char kStat[] = "/stat";
  for (const char letter : kStat) path[at++] = letter;
  const long fd = sys::openat(proc, path, O_RDONLY | O_CLOEXEC);
  if (fd == -ENOENT || fd == -ESRCH) return 0;
  if (fd < 0) return fd;
  char text[512];
  const long got = sys::read(static_cast<int>(fd), text, sizeof text - 1);
  sys::close(static_cast<int>(fd));
  if (got <= 0) return got == -ESRCH ? 0 : -EIO;
  return parse(text, got, process) ? 1 : -EIO;
}

struct DirectoryEntry {  // getdents64(2)
  uint64_t inode;
  int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[1];
};

long take_census(int proc, Census& census) {
  census.count = 0;
  const long fd = sys::openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fd;
  alignas(DirectoryEntry) char buffer[8192];
  long got;
  while ((got = sys::call(SYS_getdents64, fd, sys::arg(buffer), sizeof buffer)) > 0) {
    for (long at = 0, end = got; at < end;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
      at += entry->size;
      if (entry->name[0] < '1' || entry->name[0] > '9') continue;
      const bool full = census.count == kMostProcesses;
      const long found = full ? -E2BIG : read_process(proc, entry->name, census.all[census.count]);
      if (found < 0) got = found;
      if (found < 0) break;
      census.count += static_cast<uint32_t>(found);
    }
    if (got < 0) break;
  }
  sys::close(static_cast<int>(fd));
  return got;
}

// The first thread of a process may have ended and the others go on: it looks like a zombie then.
bool alive(const Process& process) {
  return (process.state != 'Z' && process.state != 'X') || !process.alone;
}
bool is_stopped(char state) { return state == 'T' || state == 't'; }

// Whose processes are to end.
struct Doom {
  int32_t ancestor;            // all that descends from it, or 0
  const KnownChildren* known;  // or all of pid 1's children but these, with what descends from them

  bool begins_with(const Process& process) const {
    if (ancestor != 0) return process.parent == ancestor;
    if (process.parent != 1) return false;
    for (uint32_t i = 0; i < known->count; ++i) {
      if (known->workers[i].worker == process.pid) return false;
    }
    return true;
  }
};

// Parents mostly have lower pids than their children, so one or two rounds find all.
uint32_t mark(Census& census, const Doom& doom) {
  uint32_t living = 0;
  for (bool more = true; more;) {
    more = false;
    for (uint32_t i = 0; i < census.count; ++i) {
      Process& process = census.all[i];
      if (process.doomed) continue;
      const Process* parent = census.find(process.parent);
      if (!doom.begins_with(process) && (parent == nullptr || !parent->doomed)) continue;
      process.doomed = more = true;
      living += alive(process) ? 1 : 0;
    }
  }
  return living;
}

// Children first: a shell that saw its child stopped would take it for a job that was put aside.
void go_on(const Census& now, const Census& before) {
  for (uint32_t i = now.count; i-- > 0;) {
    const Process& process = now.all[i];
    if (process.doomed || process.pid == 1) continue;
    const Process* then = before.find(process.pid);
    if (then != nullptr && is_stopped(then->state)) continue;  // somebody else stopped it
    sys::call(SYS_kill, process.pid, SIGCONT);
  }
}

// What a killed process still does in the kernel takes a moment; and one may have asked for a
// SIGCONT by a timer of its own. So: until nothing is left, or it can't be a matter of time.
constexpr int kMostRounds = 400;

long end_all(int proc, const Doom& doom) {
  const Memory memory_before, memory_now;
  Census before{memory_before.get()}, now{memory_now.get()};
  if (before.all == nullptr || now.all == nullptr) return -ENOMEM;
  long seen = take_census(proc, before);
  for (int round = 0; round < kMostRounds; ++round) {
    sys::call(SYS_kill, -1, SIGSTOP);
    // A census that couldn't be taken is taken again: the alternative is to end the container.
    seen = take_census(proc, now);
    if (seen >= 0 && mark(now, doom) == 0) break;
    for (uint32_t i = 0; i < now.count; ++i) {
      if (now.all[i].doomed) sys::call(SYS_kill, now.all[i].pid, SIGKILL);
    }
    const timespec moment{0, round < 20 ? 200000 : 2000000};
    sys::call(SYS_nanosleep, sys::arg(&moment), 0);
  }
  if (seen < 0) {
    sys::call(SYS_kill, -1, SIGCONT);
    return seen;
  }
  go_on(now, before);
  return 0;
}

}  // namespace

long end_descendants(int proc, int32_t ancestor) {
  return proc < 0 ? proc : end_all(proc, {ancestor, nullptr});
}

long end_strays(int proc, const KnownChildren& known) {
  return proc < 0 ? proc : end_all(proc, {0, &known});
}

}  // namespace pyminicon::child
