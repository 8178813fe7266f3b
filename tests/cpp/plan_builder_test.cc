// Facts about parent/plan/builder.h: what Python asked for is what the child reads.
#include <cstring>
#include <string>

#include "fact.h"
#include "parent/plan/builder.h"
#include "parent/plan/placeholder_id.h"

using namespace pyminicon;
using namespace pyminicon::parent;

namespace {

const ExecSpec kExec = {{"/bin/x", "/usr/bin/x"}, {"x", ""}, {"A=b", "C="}, "/tmp"};
constexpr uint64_t kNewcgroup = 0x02000000, kNewpid = 0x20000000;

PlanSpec full_spec() {
  PlanSpec spec;
  spec.namespaces = kNewcgroup | kNewpid;
  spec.own_uid_map = "0 1000 1\n";
  spec.hostname = "box";
  spec.loopback = true;
  spec.root = RootKind::kOverlay;
  spec.layers = {"/top", "/bottom:,\\"};
  spec.scratch_tmpfs = "size=1m";
  spec.change_user = spec.set_groups = true;
  spec.uid = 4000000000U;
  spec.gid = 7;
  spec.groups = {1, 2, 4294967294U};
  spec.skeleton.push_back({OpKind::kDir, 0, {}, "etc", {}, 0755, 1, 2});
  spec.mounts.push_back({OpKind::kBind, kOpReadOnly, "/src", "dst", {}});
  spec.mounts.push_back({OpKind::kFile, 0, {}, "f", std::string("a\0b", 3), 0600, 3, 4});
  spec.rlimits.push_back({7, 0, 64, UINT64_MAX});
  spec.capabilities = 0xA80425FB;
  spec.seccomp = std::string(16, '\x07');
  spec.has_seccomp = true;
  return spec;
}

// Builds the plan and settles it in its own memory, as a launch that shares memory does.
const LaunchPlan& built(const PlanSpec& spec, const LaunchFds& fds, Arena& arena,
                        const ExecSpec& exec = kExec) {
  build_plan(spec, exec, spec.mounts, fds, arena);
  arena.settle(reinterpret_cast<uint64_t>(arena.data()));
  return arena.at<PlanHeader>(0).plan;
}

void every_field_arrives() {
  Arena arena;
  LaunchFds fds;
  fds.stdio[0] = 9;
  fds.pass = {5, 11};
  const PlanSpec spec = full_spec();
  const LaunchPlan& plan = built(spec, fds, arena);
  CHECK(plan.namespaces == spec.namespaces);
  CHECK(std::string(plan.ids.uid_map) == "0 1000 1\n");
  CHECK(plan.ids.gid_map == nullptr);
  CHECK(plan.ids.uid == 4000000000U && plan.ids.gid == 7 && plan.ids.change == 1);
  CHECK(plan.ids.groups.size == 3 && plan.ids.groups.data[2] == 4294967294U);
  CHECK(std::string(plan.hostname) == "box");
  CHECK(plan.loopback == 1 && plan.fresh_mounts == 0);
  CHECK(plan.root.layers.size == 2 && std::string(plan.root.layers.data[1]) == "/bottom:,\\");
  CHECK(std::string(plan.root.scratch_tmpfs) == "size=1m" && plan.root.scratch_dir == nullptr);
  CHECK(plan.rlimits.data[0].hard == UINT64_MAX);
  CHECK(plan.rlimits.size == 3);  // two of what the kernel counts for a uid come by themselves
  CHECK(plan.capabilities.keep == 0xA80425FB && plan.capabilities.last >= 37);
  CHECK(plan.seccomp.size == 2 && plan.seccomp.before_capabilities == 0);
  CHECK(plan.stdio.fd[0] == 9 && plan.stdio.pass.size == 2 && plan.stdio.pass.data[1] == 11);
}

void operations_arrive_in_order_with_their_bytes() {
  Arena arena;
  const PlanSpec spec = full_spec();
  const LaunchPlan& plan = built(spec, {}, arena);
  CHECK(plan.skeleton.size == 1 && plan.mounts.size == 2);
  const FsOp& dir = plan.skeleton.data[0];
  CHECK(dir.kind == OpKind::kDir && dir.source == nullptr && dir.mode == 0755 && dir.gid == 2);
  const FsOp& bind = plan.mounts.data[0];
  CHECK(std::string(bind.source) == "/src" && std::string(bind.target) == "dst");
  CHECK(bind.flags == kOpReadOnly && bind.data == nullptr && bind.size == 0);
  const FsOp& file = plan.mounts.data[1];
  CHECK(file.size == 3 && std::memcmp(file.data, "a\0b", 3) == 0);
}

void argv_and_environment_end_with_null() {
  Arena arena;
  const PlanSpec spec = full_spec();
  const LaunchPlan& plan = built(spec, {}, arena);
  CHECK(std::string(plan.exec.argv[0]) == "x" && std::string(plan.exec.argv[1]).empty());
  CHECK(plan.exec.argv[2] == nullptr && plan.exec.envp[2] == nullptr);
  CHECK(plan.exec.candidates.size == 2 && std::string(plan.exec.cwd) == "/tmp");
}

void an_empty_spec_is_a_plan_without_wishes() {
  Arena arena;
  const LaunchPlan& plan = built(PlanSpec{}, {}, arena, {});
  CHECK(plan.hostname == nullptr && plan.ids.uid_map == nullptr && plan.seccomp.program == nullptr);
  CHECK(plan.mounts.size == 0 && plan.rlimits.size == 2 && plan.stdio.pass.size == 0);
  CHECK(plan.helper_fd == -1 && plan.failure_fd == -1 && plan.handout_fd == -1);
  CHECK(plan.exec.argv[0] == nullptr && std::string(plan.exec.cwd) == "/");
  CHECK(arena.at<PlanHeader>(0).report.error == 0 && arena.at<PlanHeader>(0).report.network == 0);
}

void on_cgroup_v1_the_namespace_is_left_for_after_the_join() {
  Arena arena;
  LaunchFds fds;
  fds.tasks = {8};
  const LaunchPlan& plan = built(full_spec(), fds, arena);
  CHECK(plan.namespaces == kNewpid && plan.unshare_cgroupns == 1);
  CHECK(plan.tasks_fds.size == 1 && plan.tasks_fds.data[0] == 8);
}

void without_no_new_privs_the_filter_comes_before_the_capabilities_go() {
  Arena arena;
  PlanSpec spec = full_spec();
  spec.no_new_privs = false;
  const LaunchPlan& plan = built(spec, {}, arena);
  CHECK(plan.seccomp.before_capabilities == 1 && plan.capabilities.no_new_privs == 0);
}

void a_layer_on_disk_replaces_the_tmpfs() {
  Arena arena;
  LaunchFds fds;
  fds.scratch_dir = "/var/x";
  const LaunchPlan& plan = built(full_spec(), fds, arena);
  CHECK(std::string(plan.root.scratch_dir) == "/var/x" && plan.root.scratch_tmpfs == nullptr);
}

void for_the_helper_every_pointer_lies_in_its_separate_memory() {
  Arena arena;
  const PlanSpec spec = full_spec();
  build_plan(spec, kExec, spec.mounts, {}, arena);
  arena.settle(kHelperPlanAddress);
  const auto inside = [&](const void* pointer) {
    const uint64_t at = reinterpret_cast<uint64_t>(pointer) - kHelperPlanAddress;
    return at >= sizeof(PlanHeader) && at < arena.size();
  };
  const LaunchPlan& plan = arena.at<PlanHeader>(0).plan;
  for (const void* pointer :
       {static_cast<const void*>(plan.hostname), static_cast<const void*>(plan.mounts.data),
        static_cast<const void*>(plan.exec.argv), static_cast<const void*>(plan.exec.cwd),
        plan.seccomp.program, static_cast<const void*>(plan.root.layers.data)}) {
    CHECK(inside(pointer));
  }
}

void a_run_of_a_template_has_its_words_and_descriptors() {
  Arena arena;
  build_run({{"/bin/x"}, {"x"}, {}, "/"}, {5, kNullDevice, 6}, {3, 4}, arena);
  arena.settle(reinterpret_cast<uint64_t>(arena.data()));
  const RunPlan& run = arena.at<RunPlan>(0);
  CHECK(std::string(run.exec.argv[0]) == "x" && run.exec.envp[0] == nullptr);
  CHECK(run.pass.size == 2 && run.pass.data[1] == 4);
  CHECK(run.sent == 0b101);
}

void each_launch_has_an_id_of_its_own_in_the_places_of_the_plans() {
  PlanSpec spec = full_spec();
  spec.placeholder_id = "0123456789ab";
  spec.hostname_is_id = true;
  OpSpec hosts{OpKind::kFile, 0, {}, "etc/hosts", "a "};
  leave_room_for_id(*hosts.data, hosts.id_at);
  *hosts.data += "\nb ";
  leave_room_for_id(*hosts.data, hosts.id_at);
  spec.skeleton.push_back(hosts);
  ExecSpec exec = kExec;
  exec.env = {"HOSTNAME=0123456789ab", "A=0123456789ab"};
  LaunchFds fds;
  fds.id = new_id();
  CHECK(fds.id.size() == 12 && fds.id != new_id());
  name_in(exec, spec, fds.id);
  Arena arena;
  const LaunchPlan& plan = built(spec, fds, arena, exec);
  CHECK(plan.hostname == fds.id);
  const FsOp& file = plan.skeleton.data[plan.skeleton.size - 1];
  CHECK(file.data == "a " + fds.id + "\nb " + fds.id && file.size == 29);
  CHECK(plan.exec.envp[0] == "HOSTNAME=" + fds.id && std::string(plan.exec.envp[1]) == exec.env[1]);
}

void a_host_name_of_the_callers_is_kept() {
  PlanSpec spec = full_spec();
  spec.placeholder_id = "box";
  spec.hostname = "box";
  LaunchFds fds;
  fds.id = new_id();
  Arena arena;
  CHECK(std::string(built(spec, fds, arena).hostname) == "box");
}

void garbage_for_a_stage_is_unknown() {
  CHECK(std::string(stage_name(static_cast<Stage>(9999))) == "unknown");
  CHECK(std::string(stage_name(Stage::kCount)) == "unknown");
  CHECK(std::string(stage_name(Stage::kPivot)) == "pivot_root");
}

}  // namespace

int main() {
  SHOW(every_field_arrives);
  SHOW(operations_arrive_in_order_with_their_bytes);
  SHOW(argv_and_environment_end_with_null);
  SHOW(an_empty_spec_is_a_plan_without_wishes);
  SHOW(on_cgroup_v1_the_namespace_is_left_for_after_the_join);
  SHOW(without_no_new_privs_the_filter_comes_before_the_capabilities_go);
  SHOW(a_layer_on_disk_replaces_the_tmpfs);
  SHOW(for_the_helper_every_pointer_lies_in_its_separate_memory);
  SHOW(a_run_of_a_template_has_its_words_and_descriptors);
  SHOW(each_launch_has_an_id_of_its_own_in_the_places_of_the_plans);
  SHOW(a_host_name_of_the_callers_is_kept);
  SHOW(garbage_for_a_stage_is_unknown);
  return fact::result();
}
