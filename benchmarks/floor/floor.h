// The floor: one container, launched from scratch, in straight-line C++ system calls. This is what
// a systems programmer would write by hand for exactly one purpose: no plan, no options, no error
// texts, nothing kept from one launch to the next. The C ABI below is what benchmarks/floor.py
// calls through ctypes.
#pragma once

#include <stdint.h>

extern "C" {

// What one launch does; a rung of the ladder is a set of these. floor.py repeats the numbers.
enum FloorStep : uint64_t {
  kHygiene = 1ull << 0,  // signals reset, setsid, umask, RLIMIT_CORE, PDEATHSIG, close_range
  kNsMount = 1ull << 1,
  kNsPid = 1ull << 2,
  kNsUts = 1ull << 3,
  kNsIpc = 1ull << 4,
  kNsCgroup = 1ull << 5,
  kNsNet = 1ull << 6,
  kLoopback = 1ull << 7,
  kNsUserSingle = 1ull << 8,  // one id, written by the child itself
  kNsUserRanges = 1ull << 9,  // FloorJob.id_map, written by the parent while the child waits
  kNsTime = 1ull << 10,
  kPrivate = 1ull << 11,      // private propagation of the copied mount table
  kRootBind = 1ull << 12,     // the root file system bound read-only
  kRootOverlay = 1ull << 13,  // a writable layer on a tmpfs of 512 MiB
  kProc = 1ull << 14,
  kMasks = 1ull << 15,  // docker's masked and read-only paths, those that exist
  kSysfs = 1ull << 16,  // read-only
  kDev = 1ull << 17,    // tmpfs, six nodes, five links
  kDevpts = 1ull << 18,
  kShm = 1ull << 19,
  kMqueue = 1ull << 20,
  kEtc = 1ull << 21,  // /etc/hosts and /etc/hostname
  kPivot = 1ull << 22,
  kHostname = 1ull << 23,
  kCaps = 1ull << 24,      // docker's fourteen, bounding set included
  kSeccomp = 1ull << 25,   // the program given in FloorJob
  kCgroupV1 = 1ull << 26,  // a memory cgroup with a limit, joined by `tasks`
  kCgroupV2 = 1ull << 27,  // born in it
  kCapture = 1ull << 28,   // stdout and stderr through pipes, read until the end
  // Not from scratch: the parts of a prepared launch, to compare like with like.
  kHoldMounts = 1ull << 29,  // the mount namespace is undone after the answer, not before
  kStockNet = 1ull << 30,    // FloorJob.netns instead of a new network namespace
  kParked = 1ull << 31,      // everything but the exec was done before the call (floor_parked)
};

struct FloorJob {
  uint64_t steps;
  const char* rootfs;   // holds /proc /sys /dev /etc/hosts /etc/hostname and the program
  const char* program;  // as the child sees it
  const char* const* argv;
  const void* filter;  // struct sock_filter[]
  const char* id_map;  // "inside outside count"
  uint64_t memory_limit;
  uint32_t filter_length;  // in instructions
  int32_t netns;
  int32_t cgroup_parent;  // an open directory: of the memory controller (v1) or of the tree (v2)
  int32_t stamped;        // 1: fill the stamps
  // The answers.
  int32_t status;  // as wait(2) gives it
  int32_t error;   // 0 or errno
  int32_t failed;  // the bit number of the step that failed; 64 is exec, -1 none
  int32_t stamp_count;
  uint64_t begin, spawned, end;  // ns: called, parent runs again, child reaped and all undone
  uint64_t captured;             // bytes
  uint64_t stamps[32];
  int32_t stamp_step[32];  // bit numbers; -1 the child runs, 63 descriptors closed
};

// 0, or -errno. Thread safe: all state is in the job.
int floor_launch(FloorJob* job);

// The same from a stock of one: wakes the child that waits before its exec, and after the answer's
// time was taken makes the next one. `stock` is null at first; floor_discard ends what waits.
struct FloorParked;
int floor_parked(FloorJob* job, FloorParked** stock);
void floor_discard(FloorParked** stock);
}
