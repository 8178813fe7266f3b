#include "helper/leftovers.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/directory.h"
#include "base/syscall.h"
#include "base/text.h"

namespace pyminicon::helper {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr int kRemoveDirectory = 0x200;  // AT_REMOVEDIR
constexpr int kDeepest = 8;              // cgroups that something inside has made
constexpr uint8_t kIsDirectory = 4;      // DT_DIR

// The names in a directory, as the kernel gives them out.
class Listing {
 public:
  explicit Listing(int fd) : fd_(fd) { sys::call(SYS_lseek, fd, 0, 0); }
  const DirectoryEntry* next() {
    for (;;) {
      if (at_ >= got_) {
        got_ = sys::call(SYS_getdents64, fd_, sys::arg(text_), sizeof text_);
        at_ = 0;
        if (got_ <= 0) return nullptr;
      }
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(text_ + at_);
      at_ += entry->size;
      if (!entry->is_dots()) return entry;
    }
  }

 private:
  int fd_;
  long at_ = 0, got_ = 0;
  alignas(8) char text_[4096];
};

bool begins_with(const char* name, const char* beginning) {
  while (*beginning != 0) {
    if (*name++ != *beginning++) return false;
  }
  return true;
}

// NAME-NUMBER
bool is_named(const char* name, const char* owner) {
  if (!begins_with(name, owner)) return false;
  while (*owner != 0) ++owner, ++name;
  if (name[0] != '-' || name[1] == 0) return false;
  ++name;
  while (*name >= '0' && *name <= '9') ++name;
  return *name == 0;
}

bool unlink(int dir, const char* name, int flags) {
  const long r = sys::call(SYS_unlinkat, dir, sys::arg(name), flags);
  return r >= 0 || r == -ENOENT;
}

// A cgroup with those in it, the innermost first.
bool remove_cgroup(int dir, const char* name, int depth) {
  if (unlink(dir, name, kRemoveDirectory)) return true;
  const int fd = static_cast<int>(sys::openat(dir, name, kDirectory));
  if (fd < 0) return fd == -ENOENT;
  Listing listing(fd);
  for (const DirectoryEntry* entry = nullptr;
       depth < kDeepest && (entry = listing.next()) != nullptr;) {
    if (entry->type == kIsDirectory) remove_cgroup(fd, entry->name, depth + 1);
  }
  sys::close(fd);
  return unlink(dir, name, kRemoveDirectory);
}

bool remove_cgroups(const WatchPlace& place) {
  const int dir = static_cast<int>(sys::openat(AT_FDCWD, place.path, kDirectory & ~O_NOFOLLOW));
  if (dir < 0) return true;  // nothing that we could do
  bool gone = true;
  Listing listing(dir);
  while (const DirectoryEntry* entry = listing.next()) {
    if (is_named(entry->name, place.name)) gone = remove_cgroup(dir, entry->name, 0) && gone;
  }
  sys::close(dir);
  return gone;
}

// A directory of the container's, with the right to change it that the container may have taken
// from its user. By descriptor: what the name leads to may be exchanged for a link.
int open_for_change(int dir, const char* name) {
  const int found = static_cast<int>(sys::openat(dir, name, kDirectory | O_PATH));
  if (found < 0) return found;
  char path[32] = "/proc/self/fd/";
  append_number(path, 14, found);
  sys::call(SYS_fchmodat, AT_FDCWD, sys::arg(path), 0700);
  const int fd = static_cast<int>(sys::openat(found, ".", kDirectory));
  sys::close(found);
  return fd;
}

// What a directory that isn't empty holds goes up into `top`, under a new name: so the depth that a
// container has made is no matter, neither for our stack nor for our descriptors.
void lift(int top, const char* name, uint32_t& number) {
  const int fd = open_for_change(top, name);
  if (fd < 0) return;
  Listing listing(fd);
  while (const DirectoryEntry* entry = listing.next()) {
    if (unlink(fd, entry->name, 0) || unlink(fd, entry->name, kRemoveDirectory)) continue;
    char lifted[16] = ".lift-00000000";
    uint32_t rest = number++;
    for (int at = 13; at > 5; --at, rest >>= 4) lifted[at] = "0123456789abcdef"[rest & 15];
    // To move a directory is to write its "..".
    const int moved = open_for_change(fd, entry->name);
    if (moved >= 0) sys::close(moved);
    sys::call(SYS_renameat2, fd, sys::arg(entry->name), top, sys::arg(lifted), 1 /* NOREPLACE */);
  }
  sys::close(fd);
}

// True once `top` is empty. Ends where a whole turn has got nowhere.
bool empty(int top) {
  uint32_t number = 0;
  for (bool progress = true; progress;) {
    progress = false;
    bool any = false;
    Listing listing(top);
    while (const DirectoryEntry* entry = listing.next()) {
      any = true;
      if (unlink(top, entry->name, 0) || unlink(top, entry->name, kRemoveDirectory)) {
        progress = true;
        continue;
      }
      const uint32_t before = number;
      lift(top, entry->name, number);
      progress = unlink(top, entry->name, kRemoveDirectory) || number != before || progress;
    }
    if (!any) return true;
  }
  return false;
}

// Nobody sweeps between the making of a directory and the locking of it (parent/launch/scratch.cc).
bool lock_place(int dir) {
  constexpr timespec kPause{0, 1000000};
  for (int tries = 0; tries < 1000; ++tries) {
    if (sys::call(SYS_flock, dir, LOCK_EX | LOCK_NB) >= 0) return true;
    sys::call(SYS_nanosleep, sys::arg(&kPause), 0);
  }
  return false;
}

// A layer whose owner is dead, locked; its name is copied.
int find_layer(int dir, char (&name)[64]) {
  if (!lock_place(dir)) return -1;
  int found = -1;
  Listing listing(dir);
  for (const DirectoryEntry* entry = nullptr; found < 0 && (entry = listing.next()) != nullptr;) {
    if (!begins_with(entry->name, "layer-") || entry->size > sizeof name) continue;
    const int fd = static_cast<int>(sys::openat(dir, entry->name, kDirectory));
    if (fd < 0) continue;
    if (sys::call(SYS_flock, fd, LOCK_EX | LOCK_NB) < 0) {
      sys::close(fd);
      continue;
    }
    found = fd;
    uint32_t at = 0;
    do name[at] = entry->name[at];
    while (entry->name[at++] != 0);
  }
  sys::call(SYS_flock, dir, LOCK_UN);
  return found;
}

bool remove_layers(const WatchPlace& place) {
  const int dir = static_cast<int>(sys::openat(AT_FDCWD, place.path, kDirectory & ~O_NOFOLLOW));
  if (dir < 0) return true;
  bool gone = true;
  char name[64];
  for (int layer = -1; gone && (layer = find_layer(dir, name)) >= 0;) {
    gone = empty(layer) && unlink(dir, name, kRemoveDirectory);
    sys::close(layer);
  }
  sys::close(dir);
  return gone;
}

}  // namespace

void remove_leftovers(const WatchTable& table) {
  constexpr timespec kPause{0, 20000000};
  constexpr int kTurns = 250;
  for (int turn = 0; turn < kTurns; ++turn) {
    bool gone = true;
    for (const WatchPlace& place : table.places) {
      if (place.kind == kWatchFree) break;
      const bool layers = place.kind == kWatchLayers;
      gone = (layers ? remove_layers(place) : remove_cgroups(place)) && gone;
    }
    if (gone) return;
    sys::call(SYS_nanosleep, sys::arg(&kPause), 0);
  }
}

}  // namespace pyminicon::helper
