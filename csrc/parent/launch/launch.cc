#include "parent/launch/launch.h"

#include "parent/failure.h"
#include "parent/launch/job.h"
#include "parent/launch/memory_mode.h"
#include "parent/process/clone.h"

namespace pyminicon::parent {

Launched::Launched(const PlanSpec& spec)
    : kill_by_cgroup(spec.kill_by_cgroup),
      begun(now_ns()),
      memory_limit(spec.memory_limit),
      watch_(lease_watch_slot()),
      generation_(fork_generation()) {}

Launched::Launched(const std::shared_ptr<Living>& container, Fd reply, bool piped, uint32_t number)
    : pidfd(std::move(reply)),
      begun(now_ns()),
      command(std::make_unique<CommandEnd>(container, pidfd.get(), piped, number)),
      generation_(fork_generation()) {}

namespace {

Launched launch_once(const PlanSpec& spec, const LaunchOptions& options) {
  Launched made(spec);
  if (options.begun != 0) made.begun = options.begun;
  const int64_t prepared = made.begun;
  if (options.served) made.begun = options.served_since;
  LaunchJob job(spec, options);
  job.prepare(made, false);
  job.clone(made);
  job.attend(made);  // whatever it throws, the destructor of `made` ends the child
  made.started = now_ns();
  if (options.undo_later && can_undo_later(spec))
    made.undo_later();  // at once: it may have ended in a moment
  job.check(made, options.exec.argv.empty() ? Stage::kInit : Stage::kExec);
  if (options.trace) keep_trace(job.report(), prepared, made);
  return made;
}

}  // namespace

Launched launch(const PlanSpec& spec, const LaunchOptions& options) {
  reap_abandoned();
  return with_other_means([&] { return launch_once(spec, options); });
}

}  // namespace pyminicon::parent
