// What the caller may do: uid 0 alone doesn't tell.
#pragma once

namespace pyminicon::parent {

// All of root: uid 0, with what a launch takes of its capabilities, and not merely in a user
// namespace of somebody's.
bool is_root();

// Device nodes by mknod: for CAP_MKNOD in the first user namespace alone, whatever a later one
// gives.
bool can_make_nodes();

}  // namespace pyminicon::parent
