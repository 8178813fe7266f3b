// What a directory holds, as getdents64(2) tells of it.
#pragma once

#include <cstdint>

namespace pyminicon {

struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[1];

  // The directory itself, or the one above.
  bool is_dots() const {
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
  }
};

}  // namespace pyminicon
