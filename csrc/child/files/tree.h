// Removing a directory with everything in it.
#pragma once

#include "child/files/names.h"

namespace pyminicon::child {

// Removes some of what is in and of the directory `name`, at most so much as takes a moment. 1:
// more is left. Never through a link and never into another mount.
long remove_some(const Root& root, char* name, char* buffer, uint32_t size);

}  // namespace pyminicon::child
