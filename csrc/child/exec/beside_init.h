// What init takes of the program's stages, and what the program's process does because of init.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

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

// Closes all descriptors but these, where they are: to move them could fail.
void close_all_but(View<int> kept);

}  // namespace pyminicon::child
