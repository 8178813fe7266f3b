// The stage at which pid 1 becomes our init.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

// Stage: where the plan asks for an init, forks; pid 1 stays behind as init, the program goes on.
long split_init(Child&);

}  // namespace pyminicon::child
