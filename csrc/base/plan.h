// The launch plan: everything a child needs to know to become a container, as plain bytes.
//
// The parent builds it (parent/plan/builder.cc) in one arena; the child only reads it. All pointers
// point into the same arena, so the arena can be moved to another address by adding a constant to
// each: that is how the helper program, which doesn't share our memory, gets the very same plan.
//
// One fixed section per concern. Only the file system is a list of operations, because there the
// user chooses the order.
#pragma once

#include <stdint.h>

#include "base/stage.h"

namespace pyminicon {

template <typename T>
struct View {
  const T* data;
  uint32_t size;
  const T* begin() const { return data; }
  const T* end() const { return data + size; }
};

// Who makes the network namespace. A netns helper of the launch may make it on another processor
// meanwhile: it costs as much as all else together.
enum NetworkState : uint32_t {
  kNetworkOver,     // it isn't needed, or has ended. 0: the kernel writes it then, whatever has
                    // ended it (CLONE_CHILD_CLEARTID)
  kNetworkOffered,  // the netns helper hasn't run yet
  kNetworkBegun,    // it is at it
  kNetworkMade,     // the child may join it
  kNetworkJoined,   // it has: the netns helper ends when loopback is up
};

// What keeps a program with CAP_SYS_PTRACE off its init: a Landlock domain that init isn't in.
enum Barrier : uint32_t {
  kNoBarrier,
  kExecuteBarrier,  // forbids mounting as well
  kScopeBarrier,    // Linux 6.12
};

enum LoopbackState : uint32_t { kLoopbackDown, kLoopbackWanted, kLoopbackUp };

// Ready: it holds no more than it needs, so the program may be executed.
enum InitState : uint32_t { kNoInit, kInitBegins, kInitReady };

// The settings that a container's own network has, by whom they are written.
enum SettingsState : uint32_t { kSettingsLeft, kSettingsWanted, kSettingsWritten };

// What the kernel takes for the child's parent is a thread (PR_SET_PDEATHSIG).
enum ParentState : uint32_t {
  kParentLeaves,     // it may end before its process and before the container
  kParentStays,      // it doesn't
  kParentUnsettled,  // one that ends now, and then it is the process's main thread
};

// Where a launch stands, written by the child, read by the parent once the child has exec'd or
// died.
struct Report {
  uint32_t stage;        // Stage being run
  int32_t index;         // which element of the stage's list, or -1
  int32_t error;         // errno of the step that failed, 0 while all is well
  uint32_t source;       // 1: the subject is the element's source, 0: its target
  uint32_t traced;       // stamp the stages (--trace)
  uint32_t network;      // NetworkState, a futex of the child and its netns helper
  int32_t network_fd;    // the netns helper's pidfd, by which its network namespace is joined
  uint32_t loopback;     // LoopbackState: what the netns helper is to do, and has done
  uint32_t settings;     // SettingsState: likewise
  uint32_t unpaced;      // SettingsState of what a network that is served has besides
  uint32_t refused;      // the child may not make its own either
  uint32_t accompanied;  // there is a netns helper; else clone has made the network namespace
  uint32_t parent;       // ParentState, a futex
  uint32_t init;         // InitState, a futex of the program and its init
  int32_t init_error;    // errno of init's own steps, which it takes beside the program
  uint64_t stamps[static_cast<uint32_t>(Stage::kCount)];  // CLOCK_MONOTONIC, ns, stage's beginning
};

enum class OpKind : uint32_t {
  kDir,        // mkdir -p target, mode, uid:gid
  kFile,       // target holds data[size], mode
  kSymlink,    // target -> source
  kBind,       // source (a path of the host) at target
  kBindLayer,  // source (a path below the scratch's root) at target
  kTmpfs,      // a fresh tmpfs at target, data its options
  kOverlay,    // source (of the host) below a private layer named by data, at target
  kProc,       // a fresh procfs at target, or the host's one bound
  kSysfs,      // a fresh sysfs at target, read-only, or the host's one bound
  kDev,        // a tmpfs with the usual nodes at target, devpts, shm, mqueue
  kCgroup,     // the cgroup directory source, read-only at target
  kMaskFile,   // /dev/null over target, if it exists
  kMaskDir,    // an empty read-only directory over target, if it exists
  kReadOnly,   // target bound on itself read-only, if it exists
  kPlace,      // an empty directory of the scratch at target, to mount things in
  kSeal,       // the mount at target becomes read-only
  kConsole,    // the terminal stdio[0] bound at target
};

constexpr uint32_t kOpReadOnly = 1;    // the mount is (recursively) read-only
constexpr uint32_t kOpRecursive = 2;   // submounts of the source come along
constexpr uint32_t kOpMakeTarget = 4;  // a missing target is made
constexpr uint32_t kOpNoSymlink = 8;   // a symlink anywhere in the target is refused
constexpr uint32_t kOpHostBind =
    16;  // kProc, kSysfs: bind the host's tree (the kernel forbids a new one)
constexpr uint32_t kOpBindNodes = 32;  // kDev: bind the host's nodes (mknod is forbidden)
constexpr uint32_t kOpSetuid = 64;     // don't add nosuid
constexpr uint32_t kOpNoExec = 128;
constexpr uint32_t kOpMqueue = 256;          // kDev: with /dev/mqueue
constexpr uint32_t kOpIfTarget = 1024;       // a missing target is skipped
constexpr uint32_t kOpConsoleTarget = 2048;  // kDev: with an empty file for /dev/console
constexpr uint32_t kOpFollow = 4096;  // kBind: a source that is a link means what it leads to

// A file by what it is; inode 0 is none.
struct Inode {
  uint64_t inode;
  uint32_t device_major, device_minor;
};

struct FsOp {
  OpKind kind;
  uint32_t flags;
  const char* source;
  const char* target;  // relative to the root, no leading slash
  const char* data;
  uint32_t size;
  uint32_t mode;
  uint32_t uid, gid;
  Inode expected;  // kBind: what the source must be
};

enum class RootKind : uint32_t {
  kScratch,  // the scratch directory itself is the root
  kOverlay,  // layers below, the scratch directory as the writable layer
  kCover,    // the scratch directory as a read-only layer above the layers
  kBind,     // one directory, bound
};

struct RootPlan {
  RootKind kind;
  uint32_t read_only;
  View<const char*> layers;     // top first
  const char* scratch_tmpfs;    // options of the scratch tmpfs, or null
  const char* scratch_dir;      // a directory on disk instead, or null
  const char* overlay_options;  // more overlay options ("userxattr"), comma separated, or null
  uint32_t allow_setuid;        // the root isn't mounted nosuid
};

struct IdPlan {
  const char* uid_map;      // written by the child itself, or null
  const char* gid_map;      // likewise, after "deny" to setgroups
  int32_t ready_fd, go_fd;  // >= 0: another process writes the maps; tell it, wait for it
  uint32_t become_root;     // set-up runs as uid 0 of the new user namespace
  uint32_t change;          // change to uid:gid before exec
  uint32_t uid, gid;
  uint32_t set_groups;
  View<uint32_t> groups;
};

// What would make the container matter more than others to the kernel.
struct FavourPlan {
  uint32_t level;     // the caller is real-time or has a negative nice value: back to normal
  int32_t oom_score;  // for oom_score_adj; 0: what is inherited is right
  uint32_t write_oom_score;
};

struct RlimitPlan {
  uint32_t resource;
  uint32_t reserved;
  uint64_t soft, hard;
};

struct TimePlan {
  uint32_t private_clock;  // unshare the time namespace, clocks begin at 0
  uint32_t reserved;
  const char* offsets;  // for /proc/self/timens_offsets
  uint64_t latest;      // the monotonic clock (s) must read less than this inside
};

// net.ipv4.ping_group_range in which every group is.
constexpr char kAllGroups[] = "0 2147483647";
// A congestion control that doesn't pace. It is in every kernel, and anybody's to choose.
constexpr char kUnpaced[] = "reno";

// A setting of the container's own network.
struct SysctlPlan {
  const char* path;  // below /proc/sys
  const char* value;
  uint32_t usual;  // not asked for: where the kernel doesn't take it there is none
  uint32_t reserved;
};

struct CapabilityPlan {
  uint64_t keep;  // bounding, permitted and effective set
  uint32_t last;  // the kernel's last capability
  uint32_t no_new_privs;
};

struct SeccompPlan {
  const void* program;  // struct sock_filter[size], or null
  uint32_t size;
  uint32_t before_capabilities;  // without no_new_privs it needs CAP_SYS_ADMIN
  uint32_t own;                  // not the built-in profile, and it can be loaded later
};

// In the place of a descriptor: the container's own /dev/null. Through one of the host's node its
// mode could be changed for the whole machine.
constexpr int32_t kNullDevice = -1;

struct StdioPlan {
  int32_t fd[3];
  int32_t terminal;    // stdio[0] becomes the controlling terminal
  View<int32_t> pass;  // kept under their own numbers, ascending
};

struct ExecPlan {
  View<const char*> candidates;  // full paths in PATH order
  const char* const* argv;
  const char* const* envp;
  const char* cwd;
};

struct LaunchPlan {
  uint64_t namespaces;  // CLONE_NEW*
  IdPlan ids;
  View<int32_t> tasks_fds;  // cgroup v1: write 0 to each
  uint32_t unshare_cgroupns;
  TimePlan time;
  const char* hostname;
  uint32_t loopback;
  View<SysctlPlan> sysctls;
  uint32_t fresh_mounts;  // join a mount namespace made of the host's root alone (Linux 7.0)
  RootPlan root;
  View<FsOp> skeleton;  // made in the scratch directory before the root is mounted
  View<FsOp> mounts;    // made in the root; what comes after the sysfs waits for the network
  StdioPlan stdio;
  FavourPlan favour;
  uint32_t umask;         // the program's
  uint32_t core_handler;  // the core pattern is a pipe: a limit of 0 is no help
  View<RlimitPlan> rlimits;
  uint32_t new_keyring;  // the filter lets keyctl through: a session keyring of its own
  CapabilityPlan capabilities;
  uint32_t landlock;  // only what lies beneath the root may be executed
  SeccompPlan seccomp;
  SeccompPlan init_seccomp;  // of an init whose commands load that one
  ExecPlan exec;
  int32_t park_fd;       // >= 0: a socket; wait on it for the run, after all that can be done ahead
  uint32_t park_late;    // park right after the mounts: what follows depends on the run
  int32_t handout_fd;    // >= 0: a socket; the root and the mount namespace go out as descriptors
  uint32_t served;       // the caller serves its network
  int32_t gate_fd;       // >= 0: a socket; a listener at its loopback goes out, for the caller
  uint32_t gate_port;    // that listener's
  int32_t way_out_fd;    // >= 0: a socket; the network is there, and what comes back: it is up
  uint32_t init;         // stay as pid 1, run the program as its child
  uint32_t barrier;      // Barrier
  int32_t status_fd;     // init: where the program's wait status goes
  int32_t parent_pidfd;  // init: the launching process; when it ends, so does the container
  int32_t commands_fd;   // init: the socket through which commands come (base/command.h)
  int32_t control_fd;    // init: likewise what is to end
  int32_t helper_fd;     // >= 0: exec the helper program from it and go on there
  int32_t plan_fd;       // the memfd that the helper maps
  int32_t failure_fd;    // helper: the write end whose closing says that exec worked
};

// A template's container that does before it is asked for all that no run can change.
inline bool parks_ready(const LaunchPlan& plan) { return plan.park_fd >= 0 && plan.park_late == 0; }

// What a parked container is told when its run comes, in the shared plan memory.
struct RunPlan {
  View<int32_t> pass;  // the numbers of the descriptors sent behind those of stdio
  uint32_t sent;       // bit i: stdio[i] was sent; else it is kNullDevice
  ExecPlan exec;
};

// The key of a mount operation's id-mapped source, behind those of the layers
// (child/mounts/mapped.h).
constexpr int32_t kMappedOp = 1 << 20;

// Where the helper program maps the plan: any address that a static program never uses.
constexpr uint64_t kHelperPlanAddress = 0x200000000000ULL;
constexpr long kHelperPlanMax = 64 << 20;

// What lies at the beginning of the arena that the helper maps.
struct PlanHeader {
  Report report;
  LaunchPlan plan;
};

}  // namespace pyminicon
