// What works on the files of a container that lives: a process inside, as the user whose rights
// count, which does one thing for each message of the caller's and answers with one.
//
// The kernel resolves every name, by the container's own mounts and by this process's rights. So
// nothing that a program inside prepares (links, swaps while we look, pipes, devices) leads
// anywhere the user couldn't go anyway. What could hang hangs this process, which can be killed.
#pragma once

#include <stdint.h>

namespace pyminicon::child {

enum class FileOp : uint32_t {
  kStat = 1,  // what it is
  kOpen,      // a descriptor, or the word that there must be a pipe
  kPump,      // what was opened without one, through the pipe that comes with this message
  kReadlink,
  kList,  // names of a directory, as many as fit into one answer
  kMore,  // more of them
  kMkdir,
  kUnlink,
  kRmdir,
  kRename,  // to `second`
  kChmod,
  kSymlink,  // that leads to `second`
  kLink,     // another name of `second`
  kTouch,    // its times: those of now, or `time`
  kRmtree,   // a piece of it: until it says that nothing is left
  kBase,     // names of later requests begin in this directory (kBeneath)
};

// How a name is resolved. No magic link (/proc/PID/cwd) is ever followed.
constexpr uint32_t kNoFollow = 1;         // what a link itself is
constexpr uint32_t kBeneath = 2;          // never out of the base
constexpr uint32_t kNoLinks = 4;          // no link on the way either
constexpr uint32_t kDistrustOverlay = 8;  // what lies below an overlay may hang
constexpr uint32_t kGivenTime = 16;       // kTouch

struct FileRequest {
  uint32_t op, flags;
  int32_t open_flags;
  uint32_t mode;
  int64_t time;            // nanoseconds
  uint32_t first, second;  // bytes of the names that follow, each with the NUL behind it
};

enum class FileAnswer : uint32_t {
  kDone,
  kMoreToCome,  // kList, kMore, kRmtree: ask again
  kPipe,        // kOpen: it isn't handed out. Send a pipe
};

struct FileReply {
  int32_t error;  // errno
  uint32_t answer;
};

struct FileStat {
  uint64_t inode, device, links, size, blocks;
  int64_t accessed, modified, changed;  // nanoseconds
  uint32_t mode, uid, gid, block_size, raw_device, reserved;
};

constexpr uint32_t kMostName = 4096;  // PATH_MAX
constexpr uint32_t kMostRequest = sizeof(FileRequest) + kMostName + kMostName;
constexpr uint32_t kMostBody = 32 << 10;
constexpr uint32_t kMostNames = kMostBody / 2;  // bytes that one getdents takes
constexpr uint32_t kMostReply = sizeof(FileReply) + kMostBody;

// Until the other end of `socket` is closed. `proc` is a descriptor of the container's procfs that
// nobody inside could mount over.
[[noreturn]] void serve_files(int socket, int proc);

}  // namespace pyminicon::child
