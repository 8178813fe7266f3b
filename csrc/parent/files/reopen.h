// Streams that a program may open again.
#pragma once

namespace pyminicon::parent {

// Lets whoever has the pipe `fd` open it by /dev/stdin, /dev/stdout or /proc/self/fd, under any uid
// that the program takes; what isn't a pipe without a name stays as it is. False: it isn't open.
bool let_reopen(int fd);

}  // namespace pyminicon::parent
