// Files that a stranger may have put there: what it is is known before it is opened.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "parent/files/fd.h"

namespace pyminicon::parent {

// A name, as openat2(2) takes it; `flags`: O_NOFOLLOW or 0.
struct Way {
  int dir;
  std::string path;
  uint64_t flags;
  uint64_t resolve;
};

// The regular file at the end of `way`, not opened yet (O_PATH); else none, and errno says why:
// EINVAL, ELOOP or EISDIR for what is no regular file, else openat2's. To open a device is to wake
// its driver, and a FIFO or a terminal may never open.
Fd find_plain(const Way& way);

// Opens what was `found` for reading, by no name that could have got another meaning.
Fd open_found(const Fd& found, const Way& way);

// Both.
Fd open_plain(const Way& way);

// All of `file`, or nullopt with errno: EFBIG for more than `max` bytes, however many it claims.
std::optional<std::string> read_at_most(int file, uint64_t max);

// A file of the image at `root`, its links followed inside `root` only; nullopt with errno, ENOENT
// or ENOTDIR where it isn't there. EXDEV where another mount hides it: the container would see what
// lies beneath (`/` is this machine itself, and has its mounts).
std::optional<std::string> read_in_root(const std::string& root, const std::string& path,
                                        uint64_t max);

}  // namespace pyminicon::parent
