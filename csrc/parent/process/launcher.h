// A process of ours that lives in another cgroup than the caller and clones for it.
//
// A child may be born into a cgroup only if cgroup.procs of the cgroup that is above both its and
// its parent's is the caller's to write. For an ordinary user in a login session it isn't: the
// session is root's, and what his own systemd lends him lies elsewhere. So the launcher shares the
// caller's memory, is moved there once by systemd (pyminicon/cgroups/systemd.py), and has the
// children for it: with CLONE_PARENT they are the caller's.
#pragma once

#include <sys/types.h>

#include <vector>

#include "base/kernel.h"
#include "parent/files/fd.h"

namespace pyminicon::parent {

// The launcher's pid. Makes one where there is none, where it has ended, and where the calling
// thread isn't any more what it was made as (ids, namespaces, filters): its children take all that
// from it. Throws LaunchFailure.
pid_t launcher();

// Whether its children's parent, in the kernel's eyes, is the main thread.
bool launcher_stays();

// As clone_and_wait, in the launcher's cgroup; what the child execs finds `fds` under the same
// numbers and nothing else, and the calling thread's limits and scheduling. Without namespaces of
// its own it would see the launcher's. Answers the pid or -errno; `pidfd` is the child's.
long clone_by_launcher(kernel::CloneArgs& args, void (*entry)(void*), void* argument,
                       const std::vector<int>& fds, Fd& pidfd);

}  // namespace pyminicon::parent
