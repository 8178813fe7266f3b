// Work on files for the caller, inside: the last step of a command of that kind.
#pragma once

namespace pyminicon::child {

// Serves what comes through `socket`, the caller's, until its end. Everything else of the command
// is done: ids, capabilities, working directory, filter. `proc` is the container's own procfs, or
// -1.
[[noreturn]] void serve_files(int socket, int proc);

}  // namespace pyminicon::child
