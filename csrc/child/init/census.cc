#include "child/init/census.h"

#include <sys/mman.h>

#include "base/directory.h"
#include "base/text.h"

namespace pyminicon::child {
namespace {

constexpr long kRoom = static_cast<long>(Processes::kMost * sizeof(Process));

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

// Hands the numbers that a directory has for names to `each`, until that answers less than 0.
template <typename Each>
long list_numbers(int dir, const char* path, Each each) {
  const long fd = sys::openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fd;
  alignas(DirectoryEntry) char buffer[8192];
  long got;
  while ((got = sys::call(SYS_getdents64, fd, sys::arg(buffer), sizeof buffer)) > 0) {
    for (long at = 0, end = got; at < end && got > 0;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
      at += entry->size;
      if (entry->name[0] < '1' || entry->name[0] > '9') continue;
      if (const long told = each(number(entry->name)); told < 0) got = told;
    }
    if (got < 0) break;
  }
  sys::close(static_cast<int>(fd));
  return got;
}

// The words of a file of numbers, however they fall on what is read at once; until `each` answers
// less than 0.
template <typename Each>
long list_words(int dir, const char* path, Each each) {
  const long fd = sys::openat(dir, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  char text[1024];
  int32_t value = 0;
  long got;
  while ((got = sys::read(static_cast<int>(fd), text, sizeof text)) > 0) {
    for (long at = 0, end = got; at < end && got > 0; ++at) {
      if (text[at] >= '0' && text[at] <= '9') {
        value = value * 10 + (text[at] - '0');
      } else if (value != 0) {
        if (const long told = each(value); told < 0) got = told;
        value = 0;
      }
    }
    if (got < 0) break;
  }
  sys::close(static_cast<int>(fd));
  return got;
}

}  // namespace

Processes::Processes() {
  const long at = sys::call(SYS_mmap, 0, kRoom, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at > 0 || at < -4095) all = reinterpret_cast<Process*>(at);
}

Processes::~Processes() {
  if (all != nullptr) sys::call(SYS_munmap, sys::arg(all), kRoom);
}

const Process* Processes::find(int32_t pid) const {
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

long look_at(int proc, int32_t pid, Processes& processes) {
  if (processes.count == Processes::kMost) return -E2BIG;
  char path[24];
  append(path, append_number(path, 0, pid), "/stat");
  const long fd = sys::openat(proc, path, O_RDONLY | O_CLOEXEC);
  if (fd == -ENOENT || fd == -ESRCH) return 0;
  if (fd < 0) return fd;
  char text[512];
  const long got = sys::read(static_cast<int>(fd), text, sizeof text - 1);
  sys::close(static_cast<int>(fd));
  if (got <= 0) return got == -ESRCH ? 0 : got < 0 ? got : -EIO;
  if (!parse(text, got, processes.all[processes.count])) return -EIO;
  ++processes.count;
  return 1;
}

long take_census(int proc, Processes& processes) {
  processes.count = 0;
  return list_numbers(proc, ".", [&](int32_t pid) { return look_at(proc, pid, processes); });
}

long list_children(int proc, const Process& process, long (*each)(int32_t, void*), void* to) {
  char path[48];
  const uint32_t tasks = append(path, append_number(path, 0, process.pid), "/task");
  const auto of_thread = [&](int32_t thread) {
    path[tasks] = '/';
    append(path, append_number(path, tasks + 1, thread), "/children");
    const long r = list_words(proc, path, [&](int32_t child) { return each(child, to); });
    path[tasks] = 0;
    return r;
  };
  return process.alone ? of_thread(process.pid) : list_numbers(proc, path, of_thread);
}

}  // namespace pyminicon::child
