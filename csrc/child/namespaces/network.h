// The network namespace, and the netns helper that makes it beside the rest of the launch.
#pragma once

#include "base/plan.h"

namespace pyminicon::child {

// The netns helper's whole life, in the caller's memory: makes the namespace, waits until it has
// been joined.
[[noreturn]] void accompany(Report& report);

}  // namespace pyminicon::child
