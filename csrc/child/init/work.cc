// A worker: one command, from the message to its last process.
#include <linux/wait.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clone.h"
#include "base/command.h"
#include "base/kernel.h"
#include "base/message.h"
#include "base/syscall.h"
#include "child/exec/beside_init.h"
#include "child/exec/handed.h"
#include "child/exec/stages.h"
#include "child/files/files.h"
#include "child/init/living.h"
#include "child/namespaces/stages.h"

namespace pyminicon::child {
namespace {

struct CommandStep {
  Stage stage;
  long (*run)(Child&);
};

// A command's birth: what init's own hasn't done for all of them already. Namespaces, mounts,
// bounding set, no_new_privs, keyring and filter are inherited.
constexpr CommandStep kCommandBirth[] = {
    {Stage::kCgroupJoin, join_cgroups},
    {Stage::kLandlock, raise_barrier},  // off init, for whoever may trace
    {Stage::kStdio, move_stdio},
    {Stage::kSession, start_session},
    {Stage::kTerminal, take_terminal},
    {Stage::kRlimit, set_rlimits},
    {Stage::kCwd, try_directory},
    {Stage::kFds, close_descriptors},
    {Stage::kUser, become_user},
    {Stage::kCwd, enter_directory},
    {Stage::kCapabilities, drop_capabilities},
    {Stage::kSeccomp, load_seccomp},
};

// What a worker has to know of its command when the message is gone.
struct Kind {
  bool quiet, runner;
};

// A worker's supplementary groups, as far as it knows them; it remembers what it has set, as a
// filter may forbid to ask.
class Groups {
 public:
  bool are(const IdPlan& ids) const {
    if (ids.set_groups == 0 || count_ != ids.groups.size) return false;
    for (uint32_t i = 0; i < count_; ++i) {
      if (have_[i] != ids.groups.data[i]) return false;
    }
    return true;
  }

  // What can't be set the command tries, and tells why.
  void become(const IdPlan& ids) {
    if (ids.set_groups == 0 || ids.groups.size > kMost || are(ids)) return;
    count_ = kUnknown;
    if (set_groups(ids) < 0) return;
    count_ = ids.groups.size;
    for (uint32_t i = 0; i < count_; ++i) have_[i] = ids.groups.data[i];
  }

 private:
  static constexpr uint32_t kMost = 16, kUnknown = ~0U;
  uint32_t count_ = kUnknown;
  uint32_t have_[kMost]{};
};

// What a worker and the command that it forks have in common; the report is in shared memory.
struct Command {
  Handed got;
  CommandPlan* plan = reinterpret_cast<CommandPlan*>(kCommandAddress);
  Report* report = nullptr;
  Workers* workers = nullptr;
  int line = -1;         // of a runner that has a command which isn't quiet
  int rest = kFirstFd;   // the first descriptor that isn't ours
  bool at_root = false;  // the worker, whose working directory is inherited
  Groups groups;         // likewise
};

long take(Child& child, Stage stage, long (*run)(Child&)) {
  child.report.stage = static_cast<uint32_t>(stage);
  child.report.index = -1;
  return run(child);
}

long be_born(Child& child, Command& command, const CommandPlan& asked) {
  child.report.stage = static_cast<uint32_t>(Stage::kStdio);
  child.report.index = -1;
  const int streams = command.rest + static_cast<int>(asked.joins);
  int* const kept[] = {&command.line};
  const long placed = place_handed(child, command.got, streams, asked.sent, asked.pass, {kept, 1});
  if (placed < 0) return placed;
  for (const CommandStep& step : kCommandBirth) {
    if (const long r = take(child, step.stage, step.run); r < 0) return r;
  }
  child.report.stamps[static_cast<uint32_t>(Stage::kExec)] = static_cast<uint64_t>(sys::now_ns());
  if (asked.kind == CommandKind::kExecute) return take(child, Stage::kExec, execute);
  child.report.stage = static_cast<uint32_t>(Stage::kExec);
  return 0;
}

// What was sent to it while it waited is no signal to the program that it becomes.
void drop_signals() {
  constexpr uint64_t kAll = ~0ULL;
  constexpr timespec kAtOnce{0, 0};
  while (sys::call(SYS_rt_sigtimedwait, sys::arg(&kAll), 0, sys::arg(&kAtOnce), sizeof kAll) > 0) {
  }
}

// A runner's life up to its command, which comes in the place of the message that made it a runner.
long await_plan(Command& command) {
  const CommandPlan& asked = *command.plan;
  LaunchPlan plan{};
  plan.tasks_fds = {command.got.fds + command.rest, asked.joins};
  Child child(plan, *command.report);
  if (const long r = take(child, Stage::kPark, join_cgroups); r < 0) return r;
  const int line = command.got.fds[command.rest + static_cast<int>(asked.joins)];
  // Whoever is killed in recvmsg may take the message along, and nobody would know.
  pollfd watched{line, POLLIN, 0};
  while (sys::call(SYS_ppoll, sys::arg(&watched), 1, 0, 0, 0) == -EINTR) {
  }
  const long size =
      receive(line, reinterpret_cast<void*>(kCommandAddress), kMostInline, command.got);
  if (size == 0) return -ESHUTDOWN;  // nobody wants it any more
  child.report.stage = static_cast<uint32_t>(Stage::kClone);
  if (size < 0) return size;
  drop_signals();
  command.rest = 0;
  if (command.plan->quiet != 0) return 0;
  command.line = line;
  CommandReply word{};
  send_message(line, &word, sizeof word, nullptr, 0, MSG_NOSIGNAL | MSG_DONTWAIT);
  return 0;
}

CommandReply failure(Stage stage, int32_t index, int32_t error) {
  CommandReply word{};
  word.word = CommandWord::kFailed;
  word.stage = static_cast<uint32_t>(stage);
  word.index = index;
  word.error = error;
  return word;
}

CommandReply failure(const Report& report) {
  return failure(static_cast<Stage>(report.stage), report.index, report.error);
}

[[noreturn]] void fail(Command& command, long result) {
  Report& report = *command.report;
  report.error = static_cast<int32_t>(-result);
  if (command.line >= 0) {
    const CommandReply word = failure(report);
    send_message(command.line, &word, sizeof word, nullptr, 0, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  sys::exit_group(127);
}

bool is_root(const char* path) { return path != nullptr && path[0] == '/' && path[1] == 0; }

[[noreturn]] void become_command(Command& command, int proc) {
  const uint32_t number = command.plan->number;
  if (command.plan->kind == CommandKind::kAwait) {
    if (const long r = await_plan(command); r < 0) fail(command, r);
  }
  note_beginning(*command.workers, number);
  const CommandPlan& asked = *command.plan;
  LaunchPlan plan{};
  plan.helper_fd = plan.park_fd = -1;
  plan.tasks_fds = {command.got.fds + command.rest, asked.joins};
  plan.umask = asked.umask;
  plan.barrier = asked.barrier;
  plan.rlimits = asked.rlimits;
  plan.stdio.terminal = static_cast<int32_t>(asked.terminal);
  plan.ids = asked.ids;
  plan.capabilities.keep = asked.capabilities;
  plan.seccomp = asked.seccomp;
  plan.exec = asked.exec;
  Child child(plan, *command.report);
  child.proc = proc;
  child.is_there = command.at_root && is_root(asked.exec.cwd);
  child.has_groups = command.groups.are(asked.ids);
  const long result = be_born(child, command, asked);
  if (result < 0) fail(command, result);
  const int kept[] = {0, proc};
  close_all_but({kept, 2});
  serve_files(0, proc);
}

// Where the command didn't fit into a message it lies in a file, before the other descriptors.
long map_file(Command& command) {
  if (command.plan->in_file == 0) return 0;
  if (command.got.count <= kFirstFd) return -EPROTO;
  const int file = command.got.fds[command.rest++];
  const long at = sys::call(SYS_mmap, static_cast<long>(kCommandAddress), command.plan->size,
                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
  return at == static_cast<long>(kCommandAddress) ? 0 : at < 0 ? at : -ENOMEM;
}

// What comes without a descriptor may go through a pipe.
long tell(int reply, const CommandReply& word, int pidfd) {
  if (pidfd < 0) return sys::write(reply, &word, sizeof word);
  return send_message(reply, &word, sizeof word, &pidfd, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void tell_failure(int reply, Stage stage, long error) {
  tell(reply, failure(stage, -1, static_cast<int32_t>(error)), -1);
}

void tell_beginning(int reply, const Report& report, int32_t pid, int pidfd) {
  if (report.error != 0) {
    tell(reply, failure(report), -1);
    return;
  }
  CommandReply word{};
  word.pid = pid;
  tell(reply, word, pidfd);
}

uint64_t microseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1000000 + static_cast<uint64_t>(time.tv_usec);
}

void wake_init(const InitFds& fds) {
  constexpr char kNote = 0;
  sys::write(fds.notes_write, &kNote, sizeof kNote);
}

// Reaps what ends until nothing that descends from the command is left. Only an end is an end: one
// that calls PTRACE_TRACEME has us for a tracer, and wait4 shows its stops as well. Where it has
// left processes this worker waits for no command, and init has to know that. A runner that
// somebody has stopped while it waits goes on, or the next command would hang.
void attend(int32_t program, int reply, const Report& report, const Kind& kind,
            const InitFds& fds) {
  const auto waits = [&report] {
    return __atomic_load_n(&report.stage, __ATOMIC_RELAXED) == static_cast<uint32_t>(Stage::kPark);
  };
  for (bool look = false;;) {
    CommandReply word{};
    rusage used{};
    const int flags = __WALL | (look ? WNOHANG : 0) | (kind.runner ? WUNTRACED : 0);
    const long pid = sys::call(SYS_wait4, -1, sys::arg(&word.status), flags, sys::arg(&used));
    if (pid == -ECHILD) return;
    if (pid == 0) {
      wake_init(fds);
      look = false;
    }
    const bool stopped = (word.status & 0xff) == 0x7f;
    if (stopped && pid == program && waits()) sys::call(SYS_kill, pid, SIGCONT);
    if (pid != program || stopped) continue;
    look = true;
    if (report.error != 0) {
      if (kind.quiet) tell(reply, failure(report), -1);
      continue;
    }
    if (kind.runner && waits()) {  // killed: of no command
      tell_failure(reply, Stage::kPark, ESHUTDOWN);
      continue;
    }
    word.word = CommandWord::kEnded;
    word.lasted =
        sys::now_ns() - static_cast<int64_t>(report.stamps[static_cast<uint32_t>(Stage::kExec)]);
    word.user_us = microseconds(used.ru_utime);
    word.system_us = microseconds(used.ru_stime);
    tell(reply, word, -1);
  }
}

struct Birth {
  const Command* command;
  int proc;
};

// In the worker's memory, which the worker goes on with at once: from a copy of what is its.
[[noreturn]] void enter_command(void* birth) {
  const auto* const begun = static_cast<const Birth*>(birth);
  Command own = *begun->command;
  become_command(own, begun->proc);
}

// Until it executes its program it borrows the worker's memory, as a fork would copy the tables of
// it only for exec to drop them. Where somebody waits for its beginning the kernel wakes the worker
// at exec, or at the end of a command that failed (CLONE_VFORK). A quiet one goes on beside its
// worker, which touches nothing of it before it has ended; the room of one that came in a file is
// unmapped sooner, so that one has a copy.
long fork_program(Command& command, int proc, int* pidfd) {
  const bool quiet = command.plan->quiet != 0;
  const bool runner = command.plan->kind == CommandKind::kAwait;
  constexpr unsigned long kWatched = CLONE_VFORK | kernel::kClonePidfd;
  const unsigned long flags = SIGCHLD | (runner ? kernel::kClonePidfd : quiet ? 0 : kWatched);
  if (quiet && command.plan->in_file != 0) {
    const long pid = sys::call(SYS_clone, static_cast<long>(flags), 0, 0, 0, 0);
    if (pid == 0) become_command(command, proc);
    return pid;
  }
  constexpr unsigned long kStack = 64 << 10;
  alignas(16) static char stack[kStack];
  static Birth birth;
  birth = {&command, proc};
  return clone_onto_stack(flags | CLONE_VM, stack + kStack, pidfd, enter_command, &birth);
}

// What never executes anything closes a pipe instead, when it begins to serve and when it fails.
long fork_server(Command& command, int proc, int* pidfd) {
  int ready[2] = {-1, -1};
  if (const long r = sys::call(SYS_pipe2, sys::arg(ready), O_CLOEXEC); r < 0) return r;
  constexpr long kFlags = SIGCHLD | static_cast<long>(kernel::kClonePidfd);
  const long pid = sys::call(SYS_clone, kFlags, 0, sys::arg(pidfd), 0, 0);
  if (pid == 0) become_command(command, proc);
  sys::close(ready[1]);
  char byte;
  while (pid > 0 && sys::read(ready[0], &byte, 1) == -EINTR) {
  }
  sys::close(ready[0]);
  return pid;
}

long fork_command(Command& command, int proc, int* pidfd) {
  const bool executes = command.plan->kind != CommandKind::kServeFiles;
  return executes ? fork_program(command, proc, pidfd) : fork_server(command, proc, pidfd);
}

bool make_room() {
  constexpr int kAnonymous = MAP_ANONYMOUS | MAP_PRIVATE | MAP_FIXED;
  const long room = sys::call(SYS_mmap, static_cast<long>(kCommandAddress), kMostInline,
                              PROT_READ | PROT_WRITE, kAnonymous, -1, 0);
  return room == static_cast<long>(kCommandAddress);
}

// From the message to the last process. False: there is no room for another command.
bool see_through(Command& command, const InitFds& fds) {
  Handed& got = command.got;
  const int reply = got.fds[kReplyFd];
  // The room of a runner's message is its own command's from now on.
  const Kind kind{command.plan->quiet != 0, command.plan->kind == CommandKind::kAwait};
  const bool in_file = command.plan->in_file != 0;
  const uint32_t size = command.plan->size;
  int pidfd = -1;
  long pid = map_file(command);
  // Its own are inherited, and those of most commands are those of the one before.
  if (pid == 0) command.groups.become(command.plan->ids);
  if (pid == 0) pid = fork_command(command, fds.proc, &pidfd);
  const Stage born = kind.runner ? Stage::kPark : Stage::kClone;
  if (pid < 0) tell_failure(reply, born, -pid);
  if (pid > 0 && (!kind.quiet || kind.runner))
    tell_beginning(reply, *command.report, static_cast<int32_t>(pid), pidfd);
  // A pipe that the worker held would never read as ended.
  for (int i = kReplyFd + 1; i < got.count; ++i) sys::close(got.fds[i]);
  if (pidfd >= 0) sys::close(pidfd);
  if (in_file) sys::call(SYS_munmap, static_cast<long>(kCommandAddress), size);
  if (pid > 0) attend(static_cast<int32_t>(pid), reply, *command.report, kind, fds);
  sys::close(reply);
  return !in_file || make_room();
}

// Whether it waits for another command: it says so first and asks then (see Init::end).
bool stays(Workers& workers, uint32_t slot) {
  store(&workers.at[slot], kWaits);
  constexpr uint64_t kLast = uint64_t{1} << (kLastCommand - 1);
  constexpr timespec kAtOnce{0, 0};
  const bool may = load(&workers.stopping) == 0 && count_waiting(workers) <= kMostIdle &&
                   sys::call(SYS_rt_sigtimedwait, sys::arg(&kLast), 0, sys::arg(&kAtOnce),
                             sizeof kLast) == -EAGAIN;
  if (!may) store(&workers.at[slot], kLeaves);
  return may;
}

// Before a command comes: whatever can be done without it.
bool make_ready(const InitFds& fds, Command& command) {
  sys::prctl(PR_SET_NAME, sys::arg("pyminicon-work"));
  sys::close(fds.control);
  sys::close(fds.signals);
  sys::close(fds.status);
  sys::close(fds.notes_read);
  sys::close(fds.parent);
  // Whose parent has ended becomes this process's child, and not init's.
  sys::prctl(PR_SET_CHILD_SUBREAPER, 1);
  command.at_root = fds.at_root;
  command.report = static_cast<Report*>(share_at(kReportAddress, sizeof(Report)));
  return make_room() && command.report != nullptr;
}

// The next command. False: none has come for long, nobody is left who could send one, or
// descriptors were lost on the way, for want of room.
bool await_command(const InitFds& fds, Command& command, Workers& workers, uint32_t slot) {
  command.got.count = 0;
  command.rest = kFirstFd;
  command.report->error = 0;
  command.report->stage = static_cast<uint32_t>(Stage::kNone);
  long size = -EINTR;  // also whoever was stopped meanwhile, as there is a time limit (signal(7))
  while (size == -EINTR) {
    size =
        receive(fds.commands, reinterpret_cast<void*>(kCommandAddress), kMostInline, command.got);
  }
  // A command that comes from now on finds init, which hears that this one has ended.
  if (size == -EAGAIN) {
    store(&workers.at[slot], kIdle);
    return false;
  }
  store(&workers.at[slot], command.plan->number);
  const uint32_t taken = __atomic_add_fetch(&workers.taken, 1, __ATOMIC_SEQ_CST);
  // Beside a runner there is somebody for the commands that don't come to it.
  const bool runner = size > 0 && command.plan->kind == CommandKind::kAwait;
  const bool more = runner || static_cast<int32_t>(load(&workers.company) - taken) > 0;
  if (more && count_waiting(workers) == 0) wake_init(fds);
  if (size >= static_cast<long>(sizeof(CommandPlan)) && command.got.count > kReplyFd) return true;
  if (command.got.count > kReplyFd) {
    tell_failure(command.got.fds[kReplyFd], Stage::kClone, -size);
  }
  return false;
}

}  // namespace

void work(const InitFds& fds, Workers& workers, uint32_t slot) {
  Command command;
  command.workers = &workers;
  if (!make_ready(fds, command)) sys::exit_group(1);
  do {
    if (!await_command(fds, command, workers, slot)) break;
  } while (see_through(command, fds) && stays(workers, slot));
  sys::exit_group(0);
}

void refuse_command(int commands, int error) {
  Handed got;
  CommandPlan plan;
  receive(commands, &plan, sizeof plan, got);  // what is longer is cut off
  if (got.count > kReplyFd) tell_failure(got.fds[kReplyFd], Stage::kClone, error);
  for (int i = 0; i < got.count; ++i) sys::close(got.fds[i]);
}

}  // namespace pyminicon::child
