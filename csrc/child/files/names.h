// Names inside, resolved by the kernel.
#pragma once

#include <fcntl.h>
#include <stdint.h>

namespace pyminicon::child {

struct Root {
  int dir;           // where relative names begin
  uint64_t resolve;  // RESOLVE_*
};

// openat2 with the root's rules; no magic link is followed. `name` empty: the directory itself.
long open_name(const Root& root, const char* name, int flags, uint32_t mode = 0);

// The directory that holds what `name` names; its last part is `*last`. `name` is cut between them.
long open_parent(const Root& root, char* name, const char** last);

// The same file once more, with other flags, without a look at any name.
long open_again(int proc, int fd, int flags);

// "self/fd/N", from `proc`.
struct OwnName {
  explicit OwnName(int fd);
  char text[24];
};

// A new file that wasn't there: -EEXIST where there is one, or anything else. A link that leads
// nowhere yet is followed, as open(2) does, but for what has to stay beneath.
long create_file(const Root& root, char* name, int flags, uint32_t mode);

}  // namespace pyminicon::child
