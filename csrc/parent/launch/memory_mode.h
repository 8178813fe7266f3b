// How a launch is made: in which memory, and from what mount namespace. By what the plan asks for
// and what this kernel can do, which is found out by trying, once a process.
#pragma once

#include <string>
#include <vector>

#include "parent/plan/spec.h"

namespace pyminicon::parent {

// Whether the child must not borrow the caller's memory: its ids change, it may hang, it stays as
// init, or it would run a program of the image's that Landlock can't keep from the caller's own.
bool needs_separate_memory(const PlanSpec& spec);

// The kernel's version of Landlock; below 1 where it has none.
long landlock_version();

// What keeps the program off its init, where its capabilities wouldn't.
Barrier barrier_of(const PlanSpec& spec);

// What holds for the commands of a container; `lives`: it has no program of its own.
CommandGround ground_of(const PlanSpec& spec, bool lives);

// Whether what lies in the directory is read without a server that may never answer (FUSE, NFS): a
// borrowed thread can't be called back from there. Asks the file system, which may hang.
bool is_local(const std::string& directory);

// Fills in what the plan has of file systems. Asks them, which may hang.
void look_at_file_systems(PlanSpec& spec);

// Whether the mount namespace can be made without copying the host's mounts (Linux 7.0).
bool can_have_fresh_mounts(const PlanSpec& spec, const std::vector<OpSpec>& mounts);

// Whether the container's mounts may outlive it by a moment: nothing lies beneath them that
// somebody might want to unmount, and then take away, when its run has ended.
bool can_undo_later(const PlanSpec& spec);

}  // namespace pyminicon::parent
