// The stages that make the root and what is mounted in it; each answers 0 or -errno.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

long make_mounts_private(Child&);
long mount_root(Child&);
long mount_before_sysfs(Child&);
long mount_sysfs(Child&);
long pivot(Child&);
long write_sysctls(Child&);
long hand_out(Child&);

}  // namespace pyminicon::child
