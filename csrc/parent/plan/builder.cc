#include "parent/plan/builder.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <string>

#include "parent/cgroup/file.h"
#include "parent/cgroup/oom_score.h"

namespace pyminicon::parent {
namespace {

constexpr size_t kInstruction = 8;  // struct sock_filter

// A SeccompPlan begins as a View does.
static_assert(offsetof(SeccompPlan, program) == offsetof(View<int32_t>, data) &&
              offsetof(SeccompPlan, size) == offsetof(View<int32_t>, size));

constexpr size_t kPlan = offsetof(PlanHeader, plan);
#define PLAN_FIELD(field) (kPlan + offsetof(LaunchPlan, field))

void put_view(size_t slot, const std::vector<std::string>& values, Arena& arena) {
  arena.point(slot + offsetof(View<const char*>, data), arena.put_strings(values));
  arena.at<uint32_t>(slot + offsetof(View<const char*>, size)) =
      static_cast<uint32_t>(values.size());
}

// What to run, at the ExecPlan that lies at `slot`: the same for a launch and for a parked run.
void put_exec(size_t slot, const ExecSpec& exec, Arena& arena) {
  put_view(slot + offsetof(ExecPlan, candidates), exec.candidates, arena);
  arena.point(slot + offsetof(ExecPlan, argv), arena.put_strings(exec.argv));
  arena.point(slot + offsetof(ExecPlan, envp), arena.put_strings(exec.env));
  arena.point(slot + offsetof(ExecPlan, cwd), arena.put(exec.cwd));
}

// What the kernel counts for a uid and not for a container: one that has root's uid would use up
// what root has on the whole machine. docs/usage.md has the numbers.
std::vector<RlimitPlan> with_defaults(std::vector<RlimitPlan> limits) {
  constexpr struct {
    decltype(RLIMIT_SIGPENDING) resource;  // a type of its own in some C libraries
    rlim_t most;
  } kDefaults[] = {{RLIMIT_SIGPENDING, 1024}, {RLIMIT_MSGQUEUE, 409600}};
  for (const auto& [resource, most] : kDefaults) {
    const auto same = [number = resource](const RlimitPlan& row) { return row.resource == number; };
    if (std::any_of(limits.begin(), limits.end(), same)) continue;
    rlimit own{};
    if (getrlimit(resource, &own) < 0) continue;
    limits.push_back({static_cast<uint32_t>(resource), 0, std::min(most, own.rlim_cur),
                      std::min(most, own.rlim_max)});
  }
  return limits;
}

// Looked at only where the child may not be able to set a limit of 1, which keeps handlers away
// too.
bool core_handler_would_run() {
  rlimit core{};
  if (getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_max > 0) return false;
  return read_file("/proc/sys/kernel/core_pattern").value_or("").starts_with('|');
}

class Builder {
 public:
  Builder(const PlanSpec& spec, const ExecSpec& exec, const std::vector<OpSpec>& mounts,
          const LaunchFds& fds, Arena& arena)
      : spec_(spec), exec_(exec), mounts_(mounts), fds_(fds), arena_(arena) {
    arena_.expect(expected_size());
    arena_.reserve(sizeof(PlanHeader), alignof(PlanHeader));
  }

  void build() {
    ids();
    surroundings();
    root();
    ops(spec_.skeleton, PLAN_FIELD(skeleton));
    ops(mounts_, PLAN_FIELD(mounts));
    favour();
    limits();
    stdio();
    exec();
  }

 private:
  // The files of /etc are most of it; the words beside them are few.
  size_t expected_size() const {
    size_t size = 32 << 10;
    for (const auto* list : {&spec_.skeleton, &mounts_}) {
      for (const OpSpec& op : *list) size += sizeof(FsOp) + 64 + (op.data ? op.data->size() : 0);
    }
    return size + spec_.seccomp.size() + spec_.init_seccomp.size();
  }

  LaunchPlan& plan() { return arena_.at<PlanHeader>(0).plan; }

  void text(size_t slot, const std::optional<std::string>& value) {
    if (value) arena_.point(slot, arena_.put(*value));
  }

  // A text in which this launch's id takes the places that were kept for it.
  void named(size_t slot, const std::optional<std::string>& value,
             const std::vector<uint32_t>& id_at) {
    if (!value) return;
    const auto where = arena_.put(*value);
    arena_.point(slot, where);
    for (const uint32_t at : id_at) {
      std::memcpy(&arena_.at<char>(where + at), fds_.id.data(), fds_.id.size());
    }
  }

  template <typename T>
  void view(size_t slot, const T* data, size_t size) {
    const auto where = size > 0 ? arena_.put_bytes(data, size * sizeof(T), alignof(T)) : 0;
    arena_.point(slot + offsetof(View<T>, data), where);
    arena_.at<uint32_t>(slot + offsetof(View<T>, size)) = static_cast<uint32_t>(size);
  }

  void strings(size_t slot, const std::vector<std::string>& values) {
    put_view(slot, values, arena_);
  }

  void ids() {
    IdPlan& ids = plan().ids;
    ids.ready_fd = fds_.ready;
    ids.go_fd = fds_.go;
    ids.become_root = spec_.become_root;
    ids.change = spec_.change_user;
    ids.uid = spec_.uid;
    ids.gid = spec_.gid;
    ids.set_groups = spec_.set_groups;
    text(PLAN_FIELD(ids.uid_map), spec_.own_uid_map);
    text(PLAN_FIELD(ids.gid_map), spec_.own_gid_map);
    view(PLAN_FIELD(ids.groups), spec_.groups.data(), spec_.groups.size());
  }

  void surroundings() {
    // cgroup v1: a namespace made by clone would be rooted in the caller's cgroup.
    const bool late = !fds_.tasks.empty() && (spec_.namespaces & kCgroupns) != 0;
    plan().namespaces = late ? spec_.namespaces & ~kCgroupns : spec_.namespaces;
    plan().unshare_cgroupns = late;
    plan().loopback = spec_.loopback;
    sysctls();
    plan().fresh_mounts = fds_.fresh_mounts;
    if (fds_.fresh_mounts) plan().namespaces &= ~kNewns;
    view(PLAN_FIELD(tasks_fds), fds_.tasks.data(), fds_.tasks.size());
    text(PLAN_FIELD(hostname), spec_.hostname_is_id ? fds_.id : spec_.hostname);
    if (spec_.private_clock) clock();
  }

  void sysctls() {
    const auto& all = spec_.sysctls;
    if (all.empty()) return;
    const auto table = arena_.reserve(all.size() * sizeof(SysctlPlan), alignof(SysctlPlan));
    for (size_t i = 0; i < all.size(); ++i) {
      std::string path = all[i].name;
      std::replace(path.begin(), path.end(), '.', '/');
      const auto at = table + i * sizeof(SysctlPlan);
      text(at + offsetof(SysctlPlan, path), path);
      text(at + offsetof(SysctlPlan, value), all[i].value);
      arena_.at<SysctlPlan>(at).usual = all[i].usual;
    }
    arena_.point(PLAN_FIELD(sysctls) + offsetof(View<SysctlPlan>, data), table);
    plan().sysctls.size = static_cast<uint32_t>(all.size());
  }

  // Offsets that make the clocks start at 0 for what is launched now.
  void clock() {
    timespec monotonic{}, boot{};
    // The coarse clock takes the same offset and is up to a tick behind: none may begin below 0.
    clock_gettime(CLOCK_MONOTONIC_COARSE, &monotonic);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    // -(s + ns): the kernel takes nanoseconds from 0 to 999999999 only, so they are added back.
    const auto line = [](const char* name, const timespec& now) {
      const long back = now.tv_nsec == 0 ? 0 : 1'000'000'000 - now.tv_nsec;
      const long whole = now.tv_sec + (back == 0 ? 0 : 1);
      return std::string(name) + " -" + std::to_string(whole) + " " + std::to_string(back) + "\n";
    };
    plan().time.private_clock = 1;
    plan().time.latest = static_cast<uint64_t>(monotonic.tv_sec / 2 + 1);
    text(PLAN_FIELD(time.offsets), line("monotonic", monotonic) + line("boottime", boot));
  }

  void root() {
    RootPlan& root = plan().root;
    root.kind = spec_.root;
    root.read_only = spec_.read_only;
    root.allow_setuid = spec_.allow_setuid;
    strings(PLAN_FIELD(root.layers), spec_.layers);
    if (fds_.scratch_dir.empty()) {
      text(PLAN_FIELD(root.scratch_tmpfs), spec_.scratch_tmpfs);
    } else {
      text(PLAN_FIELD(root.scratch_dir), fds_.scratch_dir);
    }
    text(PLAN_FIELD(root.overlay_options), spec_.overlay_options);
  }

  void ops(const std::vector<OpSpec>& list, size_t slot) {
    const auto table = arena_.reserve(list.size() * sizeof(FsOp), alignof(FsOp));
    for (size_t i = 0; i < list.size(); ++i) op(list[i], table + i * sizeof(FsOp));
    arena_.point(slot + offsetof(View<FsOp>, data), table);
    arena_.at<uint32_t>(slot + offsetof(View<FsOp>, size)) = static_cast<uint32_t>(list.size());
  }

  void op(const OpSpec& from, size_t at) {
    FsOp& op = arena_.at<FsOp>(at);
    op.kind = from.kind;
    op.flags = from.flags;
    op.mode = from.mode;
    op.uid = from.uid;
    op.gid = from.gid;
    op.expected = from.expected;
    op.size = from.data ? static_cast<uint32_t>(from.data->size()) : 0;
    text(at + offsetof(FsOp, source), from.source);
    text(at + offsetof(FsOp, target), from.target);
    named(at + offsetof(FsOp, data), from.data, from.id_at);
  }

  // SCHED_BATCH and SCHED_IDLE, a positive nice value and a higher OOM score stay: they favour
  // others.
  void favour() {
    const int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
    plan().favour.level =
        policy == SCHED_FIFO || policy == SCHED_RR || getpriority(PRIO_PROCESS, 0) < 0;
    const int score = own_oom_score();
    plan().favour.write_oom_score = score != 0;
    plan().favour.oom_score = std::max(score, 0);
  }

  void limits() {
    const std::vector<RlimitPlan> rlimits = with_defaults(spec_.rlimits);
    view(PLAN_FIELD(rlimits), rlimits.data(), rlimits.size());
    plan().umask = spec_.umask;
    plan().core_handler = core_handler_would_run();
    plan().capabilities = {spec_.capabilities, last_capability(), spec_.no_new_privs};
    plan().new_keyring = spec_.new_keyring;
    plan().landlock = fds_.landlock;
    plan().barrier = fds_.barrier;
    if (!spec_.has_seccomp) return;
    plan().seccomp.before_capabilities = !spec_.no_new_privs;
    plan().seccomp.own = spec_.own_seccomp && spec_.no_new_privs;
    filter(PLAN_FIELD(seccomp), spec_.seccomp);
    filter(PLAN_FIELD(init_seccomp), spec_.init_seccomp);
  }

  void filter(size_t slot, const std::string& program) {
    if (program.empty()) return;
    arena_.at<SeccompPlan>(slot).size = static_cast<uint32_t>(program.size() / kInstruction);
    arena_.point(slot + offsetof(SeccompPlan, program),
                 arena_.put_bytes(program.data(), program.size(), kInstruction));
  }

  // The running kernel's last capability; asking beyond it is EINVAL.
  static uint32_t last_capability() {
    // No initialiser of a static: its lock, held by another thread, would survive a fork.
    static std::atomic<uint32_t> last{0};
    uint32_t number = last;
    if (number != 0) return number;
    for (number = 63; number > 0 && prctl(PR_CAPBSET_READ, number, 0, 0, 0) < 0;) --number;
    last = number;
    return number;
  }

  void stdio() {
    StdioPlan& stdio = plan().stdio;
    for (int i = 0; i < 3; ++i) stdio.fd[i] = fds_.stdio[i];
    stdio.terminal = fds_.terminal;
    view(PLAN_FIELD(stdio.pass), fds_.pass.data(), fds_.pass.size());
  }

  void exec() {
    put_exec(PLAN_FIELD(exec), exec_, arena_);
    LaunchPlan& plan = this->plan();
    plan.init = spec_.init;
    plan.status_fd = fds_.status;
    plan.parent_pidfd = fds_.parent_pidfd;
    plan.helper_fd = fds_.helper;
    plan.plan_fd = fds_.plan;
    plan.failure_fd = fds_.failure;
    plan.handout_fd = fds_.handout;
    plan.served = fds_.served;
    plan.gate_fd = fds_.gate;
    plan.gate_port = fds_.gate_port;
    plan.way_out_fd = fds_.way_out;
    plan.commands_fd = fds_.commands;
    plan.control_fd = fds_.control;
    plan.park_fd = fds_.park;
    plan.park_late = !spec_.can_park_ready || spec_.init;
  }

  static constexpr uint64_t kCgroupns = 0x02000000, kNewns = 0x00020000;
  const PlanSpec& spec_;
  const ExecSpec& exec_;
  const std::vector<OpSpec>& mounts_;
  const LaunchFds& fds_;
  Arena& arena_;
};

}  // namespace

void build_run(const ExecSpec& exec, const int (&stdio)[3], const std::vector<int>& pass,
               Arena& arena) {
  arena.reserve(sizeof(RunPlan), alignof(RunPlan));
  for (uint32_t i = 0; i < 3; ++i) {
    if (stdio[i] != kNullDevice) arena.at<RunPlan>(0).sent |= 1U << i;
  }
  put_exec(offsetof(RunPlan, exec), exec, arena);
  if (pass.empty()) return;
  const auto numbers = arena.put_bytes(pass.data(), pass.size() * sizeof(int), alignof(int));
  arena.point(offsetof(RunPlan, pass.data), numbers);
  arena.at<RunPlan>(0).pass.size = static_cast<uint32_t>(pass.size());
}

void build_command(const CommandSpec& command, const CommandGround& ground, const CommandFds& fds,
                   Arena& arena) {
  arena.reserve(sizeof(CommandPlan), alignof(CommandPlan));
  const auto list = [&arena](size_t slot, const auto& values, size_t count) {
    if (count == 0) return;
    const size_t bytes = values.size() * sizeof values[0];
    arena.point(slot, arena.put_bytes(values.data(), bytes, alignof(uint64_t)));
    arena.at<uint32_t>(slot + offsetof(View<int32_t>, size)) = static_cast<uint32_t>(count);
  };
  const auto whole = [&list](size_t slot, const auto& values) {
    list(slot, values, values.size());
  };
  arena.at<CommandPlan>(0).ids = command.ids;
  whole(offsetof(CommandPlan, ids.groups), command.groups);
  whole(offsetof(CommandPlan, pass), fds.pass);
  whole(offsetof(CommandPlan, rlimits), with_defaults(ground.rlimits));
  list(offsetof(CommandPlan, seccomp), ground.seccomp, ground.seccomp.size() / kInstruction);
  put_exec(offsetof(CommandPlan, exec), command.exec, arena);
  auto& plan = arena.at<CommandPlan>(0);
  plan.kind = command.kind;
  plan.quiet = command.quiet ? 1 : 0;
  plan.joins = fds.joins;
  plan.terminal = fds.terminal ? 1 : 0;
  plan.capabilities = command.capabilities;
  plan.barrier = ground.barrier;
  plan.umask = ground.umask;
  for (uint32_t i = 0; i < 3; ++i) {
    if (fds.stdio[i] != kNullDevice) plan.sent |= 1U << i;
  }
}

void build_plan(const PlanSpec& spec, const ExecSpec& exec, const std::vector<OpSpec>& mounts,
                const LaunchFds& fds, Arena& arena) {
  Builder(spec, exec, mounts, fds, arena).build();
}

}  // namespace pyminicon::parent
