// Ending a command with everything that descends from it, and nothing else of the container.
#pragma once

#include "child/init/living.h"

namespace pyminicon::child {

// Those of pid 1's children that aren't to be ended, nor what descends from them.
struct KnownChildren {
  const Worker* workers;
  uint32_t count;
};

// Only for pid 1 of a PID namespace, of which `proc` is the procfs (-1: there is none). The first
// ends all that descends from `ancestor` but not itself, the second all that descends from unknown
// children of pid 1. Answers 0, or -errno where nothing could be looked up.
long end_descendants(int proc, int32_t ancestor);
long end_strays(int proc, const KnownChildren& known);

}  // namespace pyminicon::child
