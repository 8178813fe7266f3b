#pragma once

#include "parent/plan/spec.h"
#include "parent/process/patience.h"

namespace pyminicon::parent {

// Writes the id maps of `pid`'s user namespace: directly, or by newuidmap(1) and newgidmap(1) where
// the spec names them. Throws LaunchFailure (stage userns), and SetupTimeout at the end of the
// patience: those ask for users by whatever way this machine knows them.
void write_id_maps(const PlanSpec& spec, int pid, const Patience& patience);

// Makes `directory` the property of the one who is root in the user namespace that `spec`
// describes.
void give_to_root_of(const PlanSpec& spec, const std::string& directory);

}  // namespace pyminicon::parent
