// The whole birth of a container.
#pragma once

#include "base/plan.h"

namespace pyminicon::child {

// Becomes the container: runs every stage, then execve. Never returns; a failure is left in the
// report and ends the process.
[[noreturn]] void become(const LaunchPlan& plan, Report& report);

}  // namespace pyminicon::child
