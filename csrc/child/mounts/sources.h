// What of the host's is mounted in the container: opened once, checked, and cloned.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

// The attributes that the operation's mount gets.
uint64_t attributes(const FsOp& op);

// 1 or 0; a symbolic link is -ELOOP, since a volume that was replaced by one is a trap, a device
// -EOPNOTSUPP.
long is_directory(int fd);

// Detached clones with their attributes; the report's subject is the source.
long clone_descriptor(Child&, const FsOp&, int source);
long clone_source(Child&, const FsOp&, int dir);  // dir: what op.source is relative to

// For a mount namespace that never has the host's mounts: all layers of the root and all sources of
// operations, cloned and kept in child.mapped.
long take_sources_along(Child&);

}  // namespace pyminicon::child
