// The other memory mode: a launch that doesn't borrow the caller's memory.
//
// A change of uid in a child that shares the parent's memory clears the *parent's* dumpable flag,
// and putting that back early lets a stranger of that uid read the parent (docs/design.md). So a
// launch that changes ids, waits for somebody to write its id maps, may hang in a mount, or stays
// as pid 1 execs our own tiny static program first and does all the rest there, from a copy of the
// plan.
#pragma once

#include "base/plan.h"

namespace pyminicon::child {

// In the child of clone3: goes on in this memory or, where the plan says so, in the helper's.
[[noreturn]] void enter(const LaunchPlan& plan, Report& report);

// Exec takes every capability from a process whose uid has no name in its user namespace yet,
// unless they are ambient (capabilities(7)).
void keep_capabilities_across_exec();

}  // namespace pyminicon::child
