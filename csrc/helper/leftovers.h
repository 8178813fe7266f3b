// What a killed owner leaves: empty cgroups, and layers on disk.
#pragma once

#include "base/reaper_table.h"

namespace pyminicon::helper {

// Removes it, from the places in the table. His containers have been killed, and may still be on
// their way out: gives up after a few seconds.
void remove_leftovers(const WatchTable& table);

}  // namespace pyminicon::helper
