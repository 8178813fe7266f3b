// clone3 with a stack of the child's own, in the caller's memory.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/kernel.h"
#include "parent/files/own_fds.h"

namespace pyminicon::parent {

// Calls `entry(argument)` in a new process that shares this memory; the calling thread sleeps until
// it execs or ends. Answers the pid or -errno. All signals are blocked around it: a handler that
// ran in the child would run on the parent's data.
long clone_and_wait(kernel::CloneArgs& args, void (*entry)(void*), void* argument);

// The same, where the calling thread may end before its process: what clones is a thread that ends
// at once, so that the kernel takes the main thread for the child's parent, and with it its
// PR_SET_PDEATHSIG. That is so once `parent` is kParentStays; the child finds it kParentUnsettled.
// Where no thread can be had it finds kParentLeaves.
long clone_for_main_thread(kernel::CloneArgs& args, void (*entry)(void*), void* argument,
                           uint32_t& parent);

// The same with a stack that `args` names, and nobody waits for what the child does. -EAGAIN where
// no thread can be had, or where clone says so.
long clone_through_thread(kernel::CloneArgs& args, void (*entry)(void*), void* argument);

bool in_main_thread();

// As clone_and_wait, beside the calling thread, which goes on. One at a time in a thread, and
// `argument` has to stay until it has ended.
long clone_beside(kernel::CloneArgs& args, void (*entry)(void*), void* argument);

// Waits for the end of a child, whatever signals come, and takes its status; WNOHANG, WNOWAIT in
// `options`: as waitid(2) has them. Answers its pid, 0 where it still runs, -1 where it is no
// child.
pid_t reap(int pidfd, int options = 0);

}  // namespace pyminicon::parent
