// The table that an embedding process shares with its two guards: one slot a container.
#pragma once

#include <stdint.h>

namespace pyminicon {

// `pid` is written by the kernel itself inside clone3 (CLONE_PARENT_SETTID), so there is no moment
// at which a container exists and the reaper couldn't know it.
struct WatchSlot {
  volatile int32_t pid;    // 0: nobody to end
  volatile int32_t taken;  // 1: leased
  volatile uint32_t
      host_pids;     // the container shares the host's PID namespace: end its cgroup only
  char cgroup[244];  // directory with a cgroup.procs, or empty
};
static_assert(sizeof(WatchSlot) == 256);

// What is to be done with a descriptor that the owner sends.
constexpr char kWatchClose = 0, kWatchKeep = 1;

constexpr uint64_t kWatchSlots = 16384;  // sparse: only the pages in use are there

// Where containers of this process have something that outlives a killed owner: the guards remove
// what is his there. Written once, `kind` last.
enum WatchPlaceKind : uint32_t {
  kWatchFree,
  kWatchCgroups,  // directories named `name`-NUMBER
  kWatchLayers,   // directories layer-..., whose lock goes with their owner
};
struct WatchPlace {
  volatile uint32_t kind;
  char name[124];
  char path[384];
};
static_assert(sizeof(WatchPlace) == 512);

constexpr int kWatchPlaces = 64;

struct WatchTable {
  // Each guard's thread id while it lives. It is the one entry of the guard's robust futex list, so
  // the kernel sets FUTEX_OWNER_DIED here when the guard ends, however that happens.
  volatile uint32_t alive[2];
  uint32_t reserved[62];
  WatchSlot slots[kWatchSlots];
  WatchPlace places[kWatchPlaces];
};

}  // namespace pyminicon
