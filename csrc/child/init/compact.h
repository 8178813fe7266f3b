// A process that waits in as few pages as it can.
#pragma once

namespace pyminicon::child {

// Goes on in `entry(argument)`, which never returns, on a stack beside the program's own data, and
// gives up all that lies elsewhere: the stack that execve made, the vdso. Each of these places has
// page tables of its own, which is more than is in them: 24 KiB for init, and as much for each
// worker. Only ever runs in the helper's own memory.
[[noreturn]] void compact(void (*entry)(void*), void* argument);

}  // namespace pyminicon::child
