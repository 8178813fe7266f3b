// What is said between the caller and the init of a container: one message begins a command, with
// its descriptors; what becomes of it comes back through a socket of its own.
#pragma once

#include <sys/time.h>

#include "base/plan.h"

namespace pyminicon {

// What a command's first process does when all is set up for it.
enum class CommandKind : uint32_t {
  kExecute,     // execve
  kServeFiles,  // works on files for the caller, who talks with it through stdio[0]
                // (child/files/files.h)
  kAwait,       // a runner: joins its cgroups and executes what another message brings
};

// A command, as plain bytes that are settled for kCommandAddress, where a worker of init's reads
// them. All that it takes is in here: nothing of it is looked up inside.
struct CommandPlan {
  CommandKind kind;
  uint32_t quiet;      // there is no word of its beginning: somebody waits for its end
  uint32_t number;     // by which the caller has it ended
  uint32_t size;       // of the whole, this struct first
  uint32_t in_file;    // the rest is in a file that comes with it: no message is that long
  uint32_t sent;       // bit i: stdio[i] was sent; else it is kNullDevice
  uint32_t terminal;   // stdio[0] becomes the controlling terminal
  View<int32_t> pass;  // the numbers of the descriptors behind those of stdio
  uint32_t joins;      // how many descriptors come before those of stdio: cgroups to write 0 into
  IdPlan ids;
  uint64_t capabilities;  // the container's: root's commands keep these
  uint32_t barrier;       // Barrier
  uint32_t umask;
  View<RlimitPlan> rlimits;
  SeccompPlan seccomp;  // where init has none of its own to be inherited
  ExecPlan exec;
};

// Within the 2 MiB of the program itself, whose page tables serve all of it; behind the command
// there is room for one that comes in a file.
constexpr uint64_t kWorkersAddress = 0x4e0000ULL;  // child::Workers
constexpr uint64_t kReportAddress = 0x4f0000ULL;   // a worker's Report
constexpr uint64_t kCommandAddress = 0x500000ULL;
constexpr uint32_t kMostInline = 48 << 10;  // bytes of a message, well below a socket's buffer
constexpr uint32_t kMostCommand = 16 << 20;

// How long a worker waits for a command. Whoever goes in after that waits for a fork more, 0.1 ms.
constexpr timeval kWorkerPatience{0, 500000};

// The descriptors of the message: where its words go, the file if there is one, the cgroups', then
// stdio's and those to be passed.
constexpr int kReplyFd = 0, kFirstFd = 1;

// Which commands have begun: the highest number that has, of those with the same remainder. What
// init and its workers share begins with this; it is in a file, which init shows the caller when it
// is asked (InitOrder::kShowBegun). A command's process writes its number as the first it does: so
// where nobody is left who has its reply, and it isn't in here, it never was.
constexpr uint32_t kBegunRoom = 512;
inline bool is_behind(uint32_t number, uint32_t last) {
  return static_cast<int32_t>(number - last) > 0;
}

// To a runner there is one message more, through the socket that came to it behind the cgroups: a
// plan of kExecute that fits in, with stdio's descriptors and those to be passed alone. What fails
// before it has come is told as Stage::kPark. Of one that isn't quiet the runner tells through the
// same socket that it has it (kBegan) and why it failed; the end of that socket says that it
// executes its program.

enum class CommandWord : uint32_t {
  kBegan,   // it executes its program; its pidfd comes along
  kFailed,  // it couldn't begin
  kEnded,   // its first process has
};

// Through the reply's socket, by its worker. The end of the socket's other side: nothing that
// descends from it is left.
struct CommandReply {
  CommandWord word;
  int32_t pid;                  // kBegan: as the container counts
  int32_t status;               // kEnded: as wait(2) tells it
  uint32_t stage;               // kFailed: Stage, the element of its list, errno
  int32_t index, error;         //
  uint64_t user_us, system_us;  // kEnded: of its first process and the children that it waited for
  int64_t lasted;               // kEnded: nanoseconds
};

enum class InitOrder : uint32_t {
  kEnd,        // all that descends from the command `number`
  kTerminate,  // signal `number` to every process, and then the end of the container
  kShowBegun,  // a byte comes back, with the file if there is one
  kCompany,    // another command comes, the `number`th in all, while there may be one that runs
};

// Through the control socket, to init itself.
struct ControlMessage {
  InitOrder order;
  uint32_t number;
};

}  // namespace pyminicon
