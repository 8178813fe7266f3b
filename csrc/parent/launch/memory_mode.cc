#include "parent/launch/memory_mode.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <iterator>

#include "base/kernel.h"
#include "child/child.h"
#include "parent/files/fd.h"
#include "parent/process/standing.h"

namespace pyminicon::parent {
namespace {

// No initialiser of a static: its lock, held by another thread, would survive a fork.
bool once(std::atomic<int>& known, bool (*find)()) {
  enum { kUnknown, kNo, kYes };
  int answer = known;
  if (answer == kUnknown) known = answer = find() ? kYes : kNo;
  return answer == kYes;
}

bool kernel_has_landlock() {
  static std::atomic<int> known{0};
  return once(known, [] { return landlock_version() >= kernel::kLandlockReferVersion; });
}

bool kernel_has_fresh_mounts() {
  static std::atomic<int> known{0};
  return once(known, [] {
    const unsigned flags = kernel::kOpenTreeNamespace | kernel::kOpenTreeCloexec;
    return static_cast<bool>(
        Fd(static_cast<int>(syscall(kernel::kSysOpenTree, AT_FDCWD, "/", flags))));
  });
}

bool can_landlock(const PlanSpec& spec) { return spec.may_landlock && kernel_has_landlock(); }

// What can't come along as a clone: the host's own proc, sysfs, device nodes and terminals.
bool needs_the_hosts_paths(const OpSpec& op) {
  return op.kind == OpKind::kConsole || (op.flags & (kOpHostBind | kOpBindNodes)) != 0;
}

// A core limit that is set before exec allows a core before exec: never of the caller's memory.
bool allows_cores(const PlanSpec& spec) {
  return std::any_of(spec.rlimits.begin(), spec.rlimits.end(), [](const RlimitPlan& row) {
    return row.resource == RLIMIT_CORE && row.soft > 1;
  });
}

// After a change of uid the files of the caller's memory in /proc are root's, and a child that
// borrows it couldn't write its own id map. exec ends that.
bool cant_map_itself(const PlanSpec& spec) {
  return spec.own_uid_map && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1;
}

// On what holds the machine's root, or memory alone.
bool lies_on_what_stays(const std::string& directory) {
  struct stat root{}, info{};
  if (stat("/", &root) < 0 || stat(directory.c_str(), &info) < 0) return false;
  if (info.st_dev == root.st_dev) return true;
  struct statfs system{};
  return statfs(directory.c_str(), &system) == 0 && system.f_type == TMPFS_MAGIC;
}

}  // namespace

bool is_local(const std::string& directory) {
  struct statfs info{};
  if (statfs(directory.c_str(), &info) < 0) return false;
  constexpr uint32_t kLocal[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,       BTRFS_SUPER_MAGIC,
                                 TMPFS_MAGIC,      OVERLAYFS_SUPER_MAGIC, F2FS_SUPER_MAGIC,
                                 RAMFS_MAGIC,      SQUASHFS_MAGIC,        0xE0F5E1E2 /* EROFS */,
                                 0x2fc12fc1 /* ZFS */};
  return std::find(std::begin(kLocal), std::end(kLocal), static_cast<uint32_t>(info.f_type)) !=
         std::end(kLocal);
}

bool needs_separate_memory(const PlanSpec& spec) {
  const bool unsafe = spec.cgroup && (spec.cgroup->shared_memory_is_unsafe ||
                                      spec.cgroup->by_launcher || births_are_outside());
  return unsafe || allows_cores(spec) || spec.separate_memory || spec.init || spec.change_user ||
         spec.become_root || spec.uid_map || spec.private_clock || !spec.all_local ||
         cant_map_itself(spec) || (spec.foreign_program && !can_landlock(spec));
}

long landlock_version() {
  return syscall(kernel::kSysLandlockCreateRuleset, nullptr, 0, kernel::kLandlockVersion);
}

Barrier barrier_of(const PlanSpec& spec) {
  if (!spec.init_barrier) return kNoBarrier;
  return landlock_version() >= kernel::kLandlockScopeVersion ? kScopeBarrier : kExecuteBarrier;
}

namespace {

// Each command has a domain of its own, and where signals are the domain's matter it could send the
// others none; so it is the other kind wherever nobody could mount anyway.
Barrier barrier_of_commands(const PlanSpec& spec) {
  const Barrier barrier = barrier_of(spec);
  return barrier == kScopeBarrier && spec.may_landlock ? kExecuteBarrier : barrier;
}

}  // namespace

CommandGround ground_of(const PlanSpec& spec, bool lives) {
  CommandGround ground;
  IdPlan& ids = ground.usual.ids;
  ids.become_root = spec.become_root;
  ids.change = spec.change_user;
  ids.uid = spec.uid;
  ids.gid = spec.gid;
  ids.set_groups = spec.set_groups;
  ground.usual.groups = spec.groups;
  ground.usual.capabilities = spec.capabilities;
  ground.rlimits = spec.rlimits;
  ground.umask = spec.umask;
  ground.barrier = barrier_of_commands(spec);
  if (lives && spec.own_seccomp && spec.no_new_privs) ground.seccomp = spec.seccomp;
  return ground;
}

void look_at_file_systems(PlanSpec& spec) {
  if (spec.separate_memory) return;  // it may hang, and is known to
  std::vector<std::string> sources = spec.layers;
  for (const OpSpec& op : spec.mounts) {
    const bool of_host = op.kind == OpKind::kBind || op.kind == OpKind::kOverlay;
    if (of_host && op.source) sources.push_back(*op.source);
  }
  spec.all_local = std::all_of(sources.begin(), sources.end(), is_local);
  spec.all_stay = spec.all_local && std::all_of(sources.begin(), sources.end(), lies_on_what_stays);
}

bool can_have_fresh_mounts(const PlanSpec& spec, const std::vector<OpSpec>& mounts) {
  const bool plain = (spec.namespaces & CLONE_NEWUSER) == 0 && !spec.disk_parent &&
                     spec.layers.size() + mounts.size() <= child::kMostMapped;
  return plain && kernel_has_fresh_mounts() && can_make_nodes() &&
         std::none_of(mounts.begin(), mounts.end(), needs_the_hosts_paths);
}

bool can_undo_later(const PlanSpec& spec) {
  return !spec.separate_memory && !spec.disk_parent && spec.all_stay;
}

}  // namespace pyminicon::parent
