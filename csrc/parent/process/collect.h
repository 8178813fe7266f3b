// Taking files out of a container that has ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "parent/process/fd.h"

namespace pyminicon::parent {

Pipe make_socketpair();

// Receives the two descriptors that child/root.cc hands out; leaves them empty if none came.
void receive_pair(int socket, Fd& first, Fd& second);

// The bytes of the regular file `path` beneath `root`; nullopt if there is none. Whatever else lies
// there (a link anywhere on the way, a device, a FIFO, more than `max` bytes) is a LaunchFailure of
// stage collect with the path as subject.
std::optional<std::string> collect_file(int root, const std::string& path, uint64_t max);

// Writes a file beneath `root` before anybody lives there, making the directories on the way;
// whatever had the name is replaced. Throws LaunchFailure (stage mount, as the same file in a plan
// would).
void put_file(int root, const std::string& path, const std::string& bytes, uint32_t mode,
              uint32_t uid, uint32_t gid);

}  // namespace pyminicon::parent
