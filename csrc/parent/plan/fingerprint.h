// What a plan was made upon: it may be used again as long as all of it is as it was.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pyminicon::parent {

// A path, and what was seen there.
struct Fingerprint {
  std::string path;
  bool follow = false;  // where a link leads, else the link itself
  bool there = false;   // else there was nothing, and the rest says nothing
  uint32_t mode = 0, uid = 0, gid = 0;
  uint64_t rdev = 0;
  uint64_t device = 0, inode = 0;  // of this very file; inode 0 for any that looks like it
};

// Whether everything is still as it was seen. Asks the file system, which may hang.
bool all_stand(const std::vector<Fingerprint>& seen);

// The same for an image on a file system that answers (the first of `seen` is its directory), by
// questions that the kernel can answer at once; false where there is no such answer.
bool all_stand_at_once(const std::vector<Fingerprint>& seen);

}  // namespace pyminicon::parent
