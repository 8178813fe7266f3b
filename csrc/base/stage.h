// The steps of a launch, in the order in which they run. docs/stages.md has a row for each,
// held to this list by a test.
#pragma once

#include <cstdint>

namespace pyminicon {

// X(identifier, "name as the user reads it")
#define PYMINICON_STAGES(X)        \
  X(kNone, "none")                 \
  X(kPublish, "publish")           \
  X(kPrepare, "prepare")           \
  X(kWatch, "watch")               \
  X(kCgroup, "cgroup")             \
  X(kClone, "clone")               \
  X(kHelper, "helper")             \
  X(kSignals, "signals")           \
  X(kUserns, "userns")             \
  X(kCgroupJoin, "cgroup_join")    \
  X(kCgroupns, "cgroupns")         \
  X(kTimens, "timens")             \
  X(kHostname, "hostname")         \
  X(kMountns, "mountns")           \
  X(kRootfs, "rootfs")             \
  X(kMount, "mount")               \
  X(kNetwork, "network")           \
  X(kSysfs, "sysfs")               \
  X(kPivot, "pivot_root")          \
  X(kLoopback, "loopback")         \
  X(kSysctl, "sysctl")             \
  X(kGate, "gate")                 \
  X(kCollect, "collect")           \
  X(kPark, "park")                 \
  X(kStdio, "stdio")               \
  X(kInit, "init")                 \
  X(kSession, "session")           \
  X(kTerminal, "terminal")         \
  X(kLandlock, "landlock")         \
  X(kRlimit, "rlimit")             \
  X(kCwd, "cwd")                   \
  X(kFds, "fds")                   \
  X(kUser, "user")                 \
  X(kCapabilities, "capabilities") \
  X(kSeccomp, "seccomp")           \
  X(kExec, "exec")                 \
  X(kStarted, "started")

enum class Stage : uint32_t {
#define X(identifier, name) identifier,
  PYMINICON_STAGES(X)
#undef X
      kCount
};

constexpr const char* stage_name(Stage stage) {
  constexpr const char* kNames[] = {
#define X(identifier, name) name,
      PYMINICON_STAGES(X)
#undef X
  };
  const auto index = static_cast<uint32_t>(stage);
  return index < static_cast<uint32_t>(Stage::kCount) ? kNames[index] : "unknown";
}

}  // namespace pyminicon
