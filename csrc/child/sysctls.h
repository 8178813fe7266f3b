// The settings (sysctl) of the container's own network.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

// Opens the directory of all settings in the procfs `proc`, while nothing is mounted on it yet.
long keep_settings(Child& child, int proc);

}  // namespace pyminicon::child
