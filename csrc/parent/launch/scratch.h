// The private layer of storage="disk": a directory of its own for each container.
#pragma once

#include <string>

#include "parent/files/fd.h"
#include "parent/process/patience.h"

namespace pyminicon::parent {

// The directory, and the lock that says that its owner lives: the kernel drops it with the last
// descriptor, however the owner ends.
struct Scratch {
  std::string directory;
  Fd lock;
};

// Makes a fresh 0700 directory below `parent` (made too if missing). The first call of a process
// removes what dead owners have left there. Throws LaunchFailure, and SetupTimeout at the end of
// the patience: it may lie where nobody answers.
Scratch make_scratch(const std::string& parent, const Patience& patience);

// Removes it with all that the container left there; never follows a link, never leaves the
// directory. False where something is left of it.
bool remove_scratch(const std::string& directory);

}  // namespace pyminicon::parent
