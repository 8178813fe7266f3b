// Sources that the parent has id-mapped: in a user namespace whose root is nobody outside, the
// image's files and the volumes' still belong to whom they should.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

// Waits for the parent's word that the id maps are written, and for the mapped sources with it.
long receive_maps(Child& child);

// The mapped source, or -1 where the host's own is to be used.
int mapped_layer(const Child& child, uint32_t layer);
int mapped_op(const Child& child);  // of the operation that the report stands at

// Attaches a mapped source in the scratch directory: overlayfs takes only attached layers
// (before 6.15).
long attach_in_scratch(const Child& child, int mount);

}  // namespace pyminicon::child
