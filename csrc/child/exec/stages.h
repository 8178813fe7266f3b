// The stages that make of a process in the container the program; each answers 0 or -errno.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

long reset_signals(Child&);
long park(Child&);
long start_session(Child&);
long take_terminal(Child&);
long move_stdio(Child&);
long set_rlimits(Child&);
long limit_descriptors(Child&);
long change_directory(Child&);
long try_directory(Child&);
long enter_directory(Child&);
long change_user(Child&);
long set_groups(const IdPlan&);
long become_user(Child&);  // change_user, where the bounding set has been cut already
long drop_capabilities(Child&);
long restrict_execution(Child&);
long load_seccomp(Child&);
long close_descriptors(Child&);
long execute(Child&);

}  // namespace pyminicon::child
