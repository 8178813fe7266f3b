// One launch while it is going on: descriptors, plan memory, the talk with the helper.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/kernel.h"
#include "parent/launch/launch.h"
#include "parent/launch/netns_helper.h"
#include "parent/plan/builder.h"
#include "parent/plan/memory.h"

namespace pyminicon::parent {

class LaunchJob {
 public:
  LaunchJob(const PlanSpec& spec, const LaunchOptions& options) : spec_(spec), options_(options) {}

  // Makes all that the child needs and the plan. `park`: the container is to wait for its run.
  void prepare(Launched& made, bool park);

  // Clones. Afterwards the child has exec'd the program, or the helper, or has ended.
  void clone(Launched& made);

  // With the helper: writes the id maps, then waits until exec closes the failure pipe, or until
  // the container is parked. Throws SetupTimeout at the deadline.
  void attend(Launched& made);

  // Throws LaunchFailure unless the child got to where it was meant to.
  void check(Launched& made, Stage reached);

  Report& report() { return *report_; }
  std::unique_ptr<PlanMemory> take_memory() { return std::move(memory_); }
  Fd take_failure() { return std::move(failure_.read); }
  Fd take_park() { return std::move(park_.read); }

 private:
  void add_cgroup(Launched& made);
  void open_helper();
  long give_birth(Launched& made, kernel::CloneArgs& args, void* entry);
  void lead_out(Launched& made);
  void wait_readable(int fd);
  const std::vector<OpSpec>& mounts() const { return mounts_.empty() ? spec_.mounts : mounts_; }

  const PlanSpec& spec_;
  const LaunchOptions& options_;
  std::vector<OpSpec> mounts_;
  LaunchFds fds_;
  Arena arena_;
  std::unique_ptr<PlanMemory> memory_ = std::make_unique<PlanMemory>();
  PlanHeader* header_ = nullptr;
  Report borrowed_{};            // of a child that has our memory
  Report* report_ = &borrowed_;  // that, or the one in the helper's plan
  std::optional<NetnsHelper> netns_helper_;
  Fd helper_, parent_;
  Pipe failure_, ready_, go_, status_, handout_, park_, commands_, control_, way_out_;
};

// Below 1 MiB no program can start; the kernel's killer there is a failed launch.
constexpr uint64_t kSmallestMemory = 1 << 20;

// What `make` launches, tried anew by other means where the first turn out to be no use here.
template <typename Make>
auto with_other_means(Make make) {
  for (;;) {
    try {
      return make();
    } catch (const NetnsHelperRefused&) {
      leave_netns_helpers_off();
    } catch (const KilledAtBirth&) {
      have_births_outside();
    }
  }
}

// What the report's stage was about: a path, a name, the program.
std::string subject_of(const PlanSpec& spec, const LaunchOptions& options,
                       const std::vector<OpSpec>& mounts, const Report& report);

// Once the child has ended, or has executed its program.
void tell_of_init(Report& report);

[[noreturn]] void throw_failure(const std::string& subject, const Report& report, int signal,
                                const std::string& hint = {});

// The stamps in the report as (stage, ns since made.begun).
void keep_trace(const Report& report, int64_t prepared, Launched& made);

}  // namespace pyminicon::parent
