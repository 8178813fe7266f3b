// A template's container, ready but for what each run says: it sleeps here until its run comes, at
// no cost of CPU. Only ever in the helper's own memory, so that nothing of the caller's is held.
#include "base/syscall.h"
#include "child/exec/handed.h"
#include "child/exec/stages.h"

namespace pyminicon::child {

long park(Child& child) {
  if (child.plan.park_fd < 0) return 0;
  const char ready = 'p';
  if (const long r = sys::write(child.plan.park_fd, &ready, 1); r < 0) return r;
  Handed got;
  uint64_t where = 0;  // the RunPlan lies there in the shared memory
  const long size = receive(child.plan.park_fd, &where, sizeof where, got);
  if (size == 0) sys::exit_group(0);  // the template is closed: nobody will come
  if (size < 0) return size;
  if (size != sizeof where) return -EPROTO;
  const auto& run = *reinterpret_cast<const RunPlan*>(kHelperPlanAddress + where);
  // The plan is this process's own copy of what it still has to do.
  auto& plan = const_cast<LaunchPlan&>(child.plan);
  int* const needed[] = {&plan.failure_fd, &plan.status_fd, &plan.parent_pidfd};
  child.exec = &run.exec;
  return place_handed(child, got, 0, run.sent, run.pass, {needed, 3});
}

}  // namespace pyminicon::child
