// A container's own id: twelve hexadecimal digits, its host name where none is given. A plan stands
// for any number of containers: it has a name in the id's place, and each launch puts its own
// there.
#pragma once

#include <string>

#include "parent/plan/spec.h"

namespace pyminicon::parent {

// Throws LaunchFailure where the kernel has no random numbers.
std::string new_id();

// Notes where the plan's name for the id stands, in the host name and in the files that it makes.
void find_id(PlanSpec& spec);

// Puts `id` in the place of the plan's name for it in the environment: HOSTNAME has it.
void name_in(ExecSpec& exec, const PlanSpec& spec, const std::string& id);

}  // namespace pyminicon::parent
