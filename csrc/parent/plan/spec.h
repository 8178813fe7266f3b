// What Python asks for, in C++ types: the input of the plan builder. What a container is (PlanSpec)
// is made once and used for any number of launches; what one run of it is (ExecSpec) isn't kept.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/command.h"
#include "parent/cgroup/cgroup.h"
#include "parent/plan/fingerprint.h"

namespace pyminicon::parent {

struct OpSpec {
  OpKind kind;
  uint32_t flags = 0;
  std::optional<std::string> source, target, data;
  uint32_t mode = 0, uid = 0, gid = 0;
  int held = -1;                  // kBind: a descriptor (O_PATH) of the source, kept by the caller
  Inode expected{};               // kBind: what the source must be; nothing where it isn't held
  std::vector<uint32_t> id_at{};  // kFile: where in `data` the container's own id goes
};

struct SysctlSpec {
  std::string name, value;  // as sysctl(8) has them
  bool usual = false;       // not asked for: a failure is none
};

// What one run of a container executes.
struct ExecSpec {
  std::vector<std::string> candidates, argv, env;
  std::string cwd = "/";
};

// What a command does and who it is.
struct CommandSpec {
  CommandKind kind = CommandKind::kExecute;
  bool quiet = false;  // nobody waits for its beginning
  ExecSpec exec;
  IdPlan ids{};  // but for the groups
  std::vector<uint32_t> groups;
  uint64_t capabilities = 0;
};

// What holds for all commands of a container.
struct CommandGround {
  CommandSpec usual;  // who they are where nothing else is said
  std::vector<RlimitPlan> rlimits;
  uint32_t umask = 022;
  Barrier barrier = kNoBarrier;
  std::string seccomp;  // a filter that each loads itself, or empty
};

struct PlanSpec {
  uint64_t namespaces = 0;
  std::string placeholder_id;  // in the environment, for the one that each launch makes

  // Ids. At most one of the two pairs of maps: written by the child itself, or for it.
  std::optional<std::string> own_uid_map, own_gid_map;
  std::optional<std::string> uid_map, gid_map;
  std::vector<std::string> uid_mapper, gid_mapper;  // newuidmap(1)'s argv but for the pid, or empty
  bool become_root = false;
  bool change_user = false;
  bool set_groups = false;
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;

  std::optional<std::string> hostname;
  bool hostname_is_id = false;  // the container's own
  bool loopback = false;
  std::vector<SysctlSpec> sysctls;  // settings of its own network
  bool usual_settings = false;      // child::write_usual() is what they begin with
  std::vector<std::string> pasta;   // pasta(1)'s argv: the way out that it makes; or empty
  bool private_clock = false;

  RootKind root = RootKind::kBind;
  bool read_only = false, allow_setuid = false;
  std::vector<std::string> layers;
  std::optional<std::string> scratch_tmpfs, disk_parent, overlay_options;
  std::vector<OpSpec> skeleton, mounts;

  uint32_t umask = 022;
  std::vector<RlimitPlan> rlimits;
  uint64_t capabilities = 0;
  bool no_new_privs = true;
  bool new_keyring = false;
  std::string seccomp;  // packed sock_filter, empty for none
  bool has_seccomp = false;
  bool own_seccomp = false;  // a profile of the user's
  std::string init_seccomp;  // what init has where commands load that one themselves

  bool init = false;
  bool init_barrier = false;  // the program could trace its init
  bool separate_memory =
      false;  // never borrow the caller's memory (a mount of it may hang, ids change)
  bool foreign_program = false;  // the program is the image's or the caller's, not this machine's
  bool may_landlock = false;     // nothing else that the container may do is forbidden by it
  bool can_park_ready =
      false;              // nothing of the set-up depends on the run, and the filter allows parking
  bool hand_out = false;  // keep the root readable after the end, for collect
  bool kill_by_cgroup = false;
  uint64_t memory_limit = 0;

  // Of the file systems below layers and mounts, looked at once, when the plan is made
  // (look_at_file_systems): none can hang; all are there for as long as the machine is.
  bool all_local = false, all_stay = false;
  // Whether a launch may, on a file system that doesn't answer.
  bool may_hang() const { return separate_memory || !all_local || disk_parent; }

  std::optional<CgroupSpec> cgroup;
  std::shared_ptr<const std::vector<Fingerprint>> fingerprints;  // null: good for one launch only
};

// The file descriptors and per-launch facts that the plan carries.
struct LaunchFds {
  int stdio[3] = {0, 1, 2};
  int terminal = 0;
  bool landlock = false, fresh_mounts = false, served = false;
  Barrier barrier = kNoBarrier;
  std::vector<int> pass;
  std::vector<int> tasks;
  int helper = -1, plan = -1, failure = -1, ready = -1, go = -1, status = -1, parent_pidfd = -1,
      handout = -1, park = -1, commands = -1, control = -1, gate = -1, way_out = -1;
  uint32_t gate_port = 0;
  std::string scratch_dir;
  std::string id;  // empty: the plan's name for it stays
};

}  // namespace pyminicon::parent
