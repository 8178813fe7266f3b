// What the container may see of /proc and /sys, and what it may not.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

long mask_file(Child&, const FsOp&);       // /dev/null over the target, if it exists
long mask_dir(Child&, const FsOp&);        // an empty read-only directory over it, if it exists
long make_read_only(Child&, const FsOp&);  // bound on itself read-only, if it exists
long make_place(Child&, const FsOp&);      // an empty directory of its own, to mount things in
long seal(Child&, const FsOp&);            // a mount made by this launch becomes read-only

}  // namespace pyminicon::child
