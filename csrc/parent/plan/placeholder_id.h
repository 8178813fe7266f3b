// A container's own id: twelve hexadecimal digits, its host name where none is given. A plan stands
// for any number of containers: it says where the id goes, and each launch puts its own there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parent/plan/spec.h"

namespace pyminicon::parent {

// Throws LaunchFailure where the kernel has no random numbers.
std::string new_id();

// Ends `text` with room for an id, and notes where it lies.
void leave_room_for_id(std::string& text, std::vector<uint32_t>& places);

// Puts `id` into the environment, where HOSTNAME has the plan's name for it.
void name_in(ExecSpec& exec, const PlanSpec& spec, const std::string& id);

}  // namespace pyminicon::parent
