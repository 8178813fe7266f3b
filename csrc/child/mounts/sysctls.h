// The settings (sysctl) of the container's own network.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

// Opens the directory of all settings in the procfs `proc`, while nothing is mounted on it yet.
long keep_settings(Child& child, int proc);

// In the calling process's network, through the /proc that it sees: all ports are anybody's, and
// so are the sockets by which ping works without a right of its own. False where that isn't so.
bool write_usual();

// In a network that the caller serves no byte waits for another: a congestion control that paces
// (bbr) halves what goes over a loopback.
bool write_unpaced();

}  // namespace pyminicon::child
