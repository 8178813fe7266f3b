// The reaper process and the table it watches; see helper/reaper.h for what it does.
#pragma once

#include <string>

#include "base/reaper_table.h"
#include "parent/files/fd.h"

namespace pyminicon::parent {

// A slot of the table, freed with the handle that holds it.
class WatchLease {
 public:
  WatchLease() = default;
  WatchLease(WatchLease&& other) noexcept;
  WatchLease& operator=(WatchLease&& other) noexcept;
  ~WatchLease() { release(); }

  // Where clone3 writes the child's pid (CLONE_PARENT_SETTID).
  volatile int32_t* pid() const { return &slot_->pid; }
  void set_cgroup(const std::string& directory, bool host_pids);

  // The container has been reaped: nobody may be killed under this number any more.
  void release();

 private:
  friend WatchLease lease_watch_slot();
  WatchLease(WatchSlot* slot, uint64_t generation) : slot_(slot), generation_(generation) {}
  WatchSlot* slot_ = nullptr;
  uint64_t generation_ = 0;
};

// Has the reaper close it, when the caller has long gone on.
void close_by_reaper(Fd fd);

// This one (of many, the last) is open in the guards as well, until they end: what the kernel has
// to do at its closing doesn't hold up the owner's end then.
void keep_by_reaper(int fd);

// From now on what is removed of a killed owner is looked for there, too. Nothing where the name is
// too long, or there is no room: then the next launch of anybody finds it.
void note_place(WatchPlaceKind kind, const std::string& path, const std::string& name);

// Starts this process's reaper if it has none that lives. Throws LaunchFailure (stage watch).
WatchLease lease_watch_slot();

}  // namespace pyminicon::parent
