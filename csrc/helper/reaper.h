// The reaper: one small process per embedding program, asleep until that program dies.
//
// PR_SET_PDEATHSIG can't do this: it follows the creating thread, a change of uid clears it and so
// can the program. A pipe's end is copied into every forked worker. A pidfd is neither.
#pragma once

#include "base/reaper_table.h"

namespace pyminicon::helper {

// `table_fd`: what `table` is a mapping of. `descriptors`: a socket; whatever the owner sends
// through it is closed here. The last reference to a mount namespace takes its mounts apart, for
// which whoever drops it waits. `lifeline`: a pipe whose other end only the owner has.
[[noreturn]] void watch(WatchTable& table, int table_fd, int owner_pidfd, int descriptors,
                        int lifeline);

}  // namespace pyminicon::helper
