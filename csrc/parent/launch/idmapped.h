#pragma once

#include <vector>

#include "parent/plan/spec.h"

namespace pyminicon::parent {

// Tells a child that waits in its new user namespace to go on. As root the layers and the sources
// of the mounts come along, id-mapped to that namespace (mount_setattr(2), Linux 5.12): what
// belongs to uid 0 outside belongs to root inside, though root inside is nobody outside. A file
// system that can't be id-mapped (procfs, overlayfs, 9p) is left as it is: the child binds it
// itself and its files belong to nobody there. Throws LaunchFailure (stage userns).
void send_go(int socket, const PlanSpec& spec, const std::vector<OpSpec>& mounts, int pid);

}  // namespace pyminicon::parent
