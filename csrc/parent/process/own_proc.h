// Whose processes /proc tells of.
#pragma once

#include "parent/failure.h"

namespace pyminicon::parent {

// Throws where /proc is that of another PID namespace (one was entered without a procfs of its
// own): by the number of a child of ours one would come to a stranger there.
void insist_on_own_proc(Stage stage);

}  // namespace pyminicon::parent
