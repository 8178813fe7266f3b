// Taking files out of a container that has ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parent/files/fd.h"
#include "parent/process/patience.h"

namespace pyminicon::parent {

// Receives the two descriptors that child/mounts/root.cc hands out. 0, or the errno for which they
// are empty: a message that came without them says nothing of why (EMFILE).
int receive_pair(int socket, Fd& first, Fd& second);

// Whether the kernel makes up what is read, for whoever reads it: that is us, on the host. Whoever
// may mount can lay such a file over the one that is collected.
bool is_made_up(int fd);

// The bytes of a file, or why there are none: an errno, and what it means here.
struct Collected {
  std::string bytes;
  int error = 0;
  std::string hint;
};

// The regular file `path` beneath `root`. Whatever else lies there (a link anywhere on the way, a
// device, a FIFO, more than `max` bytes) isn't taken.
Collected collect_file(int root, const std::string& path, uint64_t max);

// All of `paths`, each for itself: one that lies on a file system that doesn't answer is given up
// (ETIMEDOUT) at the end of the patience, and holds up none of the others.
std::vector<Collected> collect_files(int root, const std::vector<std::string>& paths, uint64_t max,
                                     const Patience& patience);

struct FileToPut {
  std::string path, bytes;
  uint32_t mode, uid, gid;
};

// Writes files beneath `root` before anybody lives there, making the directories on the way;
// whatever had the name is replaced. Throws LaunchFailure (stage mount, as the same file in a plan
// would), and SetupTimeout at the end of the patience.
void put_files(int root, std::vector<FileToPut> files, const Patience& patience);

}  // namespace pyminicon::parent
