// The other memory mode: a launch that doesn't borrow the caller's memory.
//
// A change of uid in a child that shares the parent's memory clears the *parent's* dumpable flag,
// and putting that back early lets a stranger of that uid read the parent (docs/design.md). So a
// launch that changes ids, waits for somebody to write its id maps, may hang in a mount, or stays
// as pid 1 execs our own tiny static program first and does all the rest there, from a copy of the
// plan.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

// In the child of clone3: goes on in this memory or, where the plan says so, in the helper's.
[[noreturn]] void enter(const LaunchPlan& plan, Report& report);

// Exec takes every capability from a process whose uid has no name in its user namespace yet,
// unless they are ambient (capabilities(7)).
void keep_capabilities_across_exec();

// Stage: where the plan asks for an init, forks; pid 1 stays behind as init, the program goes on.
long split_init(Child&);

// Closes all descriptors but these, where they are: to move them could fail.
void close_all_but(View<int> kept);

// Once a filter is loaded that keeps the core limit as it is, it can't be set any more.
long set_core_limit(Child&);

// For all commands: their limits can be set, the keyring and the umask are what theirs will be.
long prepare_commands(Child&);

// Before the fork, what init and the program both need: the bounding set and, where that leaves
// them all that is still to be done, the filter.
long confine_both(Child&);

// Gives up whatever pid 1 has no use for, under the program's own bounding set, no_new_privs and
// filter.
long confine_init(Child&);

// In the program's process: returns when init is what it will be. It takes a futex, which a filter
// of the user's own may refuse.
void await_init(const Child&);

// In the program's process: from now on neither it nor its children can trace or read init.
long raise_barrier(Child&);

}  // namespace pyminicon::child
