// The few things one does with mounts, on descriptors.
//
// Paths inside the container are the image's, so they are never followed as strings: each is opened
// once beneath the root with openat2(RESOLVE_IN_ROOT), and the mount is made on that descriptor.
#pragma once

#include "base/kernel.h"
#include "child/child.h"
#include "child/fd.h"

namespace pyminicon::child {

// kOverlay: the private layer is what the skeleton has at the target.
constexpr uint32_t kOpSkeleton = 8192;

// O_PATH descriptor of the scratch directory on disk.
long open_disk(const Child& child);

// O_PATH descriptor of `path` beneath `root`; symlinks are followed inside the root unless refused.
long open_beneath(int root, const char* path, int flags, uint64_t resolve);

// The same, making missing directories on the way (and, for a file, the empty file itself).
long open_or_make(int root, const char* path, bool directory, uint64_t resolve);

// mount(2) by names that can't be steered: a descriptor's own (FdName), or one that this launch
// made. MOUNT_ATTR_* and MS_* are the same bits as far as they are used here.
long mount_named(const char* type, const char* target, uint64_t attributes, const char* options);

// Likewise a bind of one mount, without what is mounted below it.
long bind_named(const char* source, const char* target);

// A detached copy of the tree at `path` seen from `dir`, out of every peer group.
long clone_tree(int dir, const char* path, bool recursive);

// And out of every peer group: a clone of a shared mount is still in its own.
long set_attributes(int mount, uint64_t set, bool recursive);
long attach(int mount, int target);
long attach_as(int mount, int directory, const char* name);

struct OverlaySpec {
  View<const char*> layers;       // top first
  const int* fds = nullptr;       // where not negative: the layer with that index, not by its path
  int cover = -1;                 // a directory above the layers
  int upper = -1, work = -1;      // both -1: read-only
  const char* options = nullptr;  // more of them
  uint64_t attributes = 0;
};
long mount_overlay(const char* target, const OverlaySpec& spec);

// mkdir, chown when needed; an existing directory is fine.
long make_directory(int dir, const char* path, uint32_t mode);

}  // namespace pyminicon::child
