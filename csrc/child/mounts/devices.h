// /dev: a small tmpfs with the usual nodes and nothing else.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

long make_dev(Child& child, const FsOp& op);

// The container's /dev/null, checked to be char 1:3 on the descriptor.
long open_null(int root);

// The same, after pivot_root and for use: what stdin=DEVNULL is.
long open_own_null();

// The terminal of stdio[0] bound at /dev/console.
long bind_console(Child& child, const FsOp& op);

}  // namespace pyminicon::child
