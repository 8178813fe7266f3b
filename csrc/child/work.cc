// A worker: one command, from the message to its last process.
//
// The command's first process is there before the command is, and waits for the message itself: so
// neither a fork nor a second process that has to wake up lies between the message and exec. It
// hands its worker the socket for the replies, and is itself what is told about.
#include <linux/wait.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/command.h"
#include "base/kernel.h"
#include "base/syscall.h"
#include "child/files.h"
#include "child/handed.h"
#include "child/living.h"
#include "child/own_memory.h"
#include "child/replies.h"

namespace pyminicon::child {
namespace {

struct Step {
  Stage stage;
  long (*run)(Child&);
};

// A command's birth: what init's own hasn't done for all of them already. Namespaces, mounts,
// bounding set, no_new_privs, keyring and filter are inherited.
constexpr Step kCommandBirth[] = {
    {Stage::kCgroupJoin, join_cgroups},
    {Stage::kLandlock, raise_barrier},  // off init, for who may trace
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

// What a worker and the command that it forks have in common; the report is in shared memory, and
// the worker sees the end of `worker`, the other side of the socket between them, when exec closes
// it.
struct Command {
  int worker = -1;
  Handed got;
  CommandPlan* plan = reinterpret_cast<CommandPlan*>(kCommandAddress);
  Report* report = nullptr;
  int rest = kFirstFd;  // the first descriptor that isn't ours
};

int64_t now() {
  timespec time{};
  sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, sys::arg(&time));
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

long take(Child& child, Stage stage, long (*run)(Child&)) {
  child.report.stage = static_cast<uint32_t>(stage);
  child.report.index = -1;
  return run(child);
}

long be_born(Child& child, Command& command, const CommandPlan& asked) {
  child.report.stage = static_cast<uint32_t>(Stage::kStdio);
  child.report.index = -1;
  const int streams = command.rest + static_cast<int>(asked.joins);
  int* kept[] = {&command.worker, &child.proc};
  const View<int*> saved{kept, 2};
  const long placed = place_handed(child, command.got, streams, asked.sent, asked.pass, saved);
  if (placed < 0) return placed;
  for (const Step& step : kCommandBirth) {
    if (const long r = take(child, step.stage, step.run); r < 0) return r;
  }
  child.report.stamps[static_cast<uint32_t>(Stage::kExec)] = static_cast<uint64_t>(now());
  if (asked.kind == CommandKind::kExecute) return take(child, Stage::kExec, execute);
  child.report.stage = static_cast<uint32_t>(Stage::kExec);
  return 0;
}

[[noreturn]] void become_command(Command& command, int proc) {
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
  const long result = be_born(child, command, asked);
  if (result < 0) {
    command.report->error = static_cast<int32_t>(-result);
    sys::exit_group(127);
  }
  const int kept[] = {0, child.proc};
  close_all_but({kept, 2});
  serve_files(0, child.proc);
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

uint64_t microseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1000000 + static_cast<uint64_t>(time.tv_usec);
}

// Reaps what ends until nothing that descends from the command is left. Only an end is an end: one
// that calls PTRACE_TRACEME has us for a tracer, and wait4 shows its stops as well.
[[noreturn]] void attend(int32_t program, int reply, const Report& report, bool quiet) {
  for (;;) {
    CommandReply word{};
    rusage used{};
    const long pid = sys::call(SYS_wait4, -1, sys::arg(&word.status), __WALL, sys::arg(&used));
    if (pid == -ECHILD) sys::exit_group(0);
    if (pid != program || (word.status & 0xff) == 0x7f) continue;
    if (report.error != 0) {
      if (quiet) tell_failure(reply, report);
      continue;
    }
    word.word = CommandWord::kEnded;
    word.lasted = now() - static_cast<int64_t>(report.stamps[static_cast<uint32_t>(Stage::kExec)]);
    word.user_us = microseconds(used.ru_utime);
    word.system_us = microseconds(used.ru_stime);
    tell(reply, word, -1);
  }
}

// Signals to all inside that came while it was nobody's process yet.
void forget_signals() {
  const uint64_t all = ~uint64_t{0};
  constexpr timespec kNow{0, 0};
  while (sys::call(SYS_rt_sigtimedwait, sys::arg(&all), 0, sys::arg(&kNow), sizeof all) > 0) {
  }
}

// The first process of the next command. Until it has that it ends with its worker.
[[noreturn]] void await_command(const InitFds& fds, Command& command, int32_t worker) {
  sys::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (sys::call(SYS_getppid) != worker) sys::exit_group(0);
  const Handed& got = command.got;
  const long size =
      receive(fds.commands, reinterpret_cast<void*>(kCommandAddress), kMostInline, command.got);
  forget_signals();
  const Taken taken{worker, command.plan->number};
  sys::write(fds.taken_write, &taken, sizeof taken);
  const bool whole = size >= static_cast<long>(sizeof(CommandPlan)) && got.count > kReplyFd;
  if (!whole) {
    // Nobody is left who could send one, or descriptors were lost on the way, for want of room.
    if (got.count > kReplyFd) {
      tell_failure(got.fds[kReplyFd], Stage::kClone, -1, static_cast<int32_t>(-size));
    }
    sys::exit_group(0);
  }
  sys::prctl(PR_SET_PDEATHSIG, 0);
  const int reply = got.fds[kReplyFd];
  if (hand_over(command.worker, command.plan->quiet, reply) < 0) sys::exit_group(0);
  sys::close(reply);
  if (const long mapped = map_file(command); mapped < 0) {
    command.report->stage = static_cast<uint32_t>(Stage::kClone);
    command.report->index = -1;
    command.report->error = static_cast<int32_t>(-mapped);
    sys::exit_group(127);
  }
  become_command(command, fds.proc);
}

// Ahead of the command. Less than 0: there is no process to be had.
long fork_first(const InitFds& fds, Command& command, int* socket, int* pidfd) {
  int ends[2] = {-1, -1};
  constexpr int kPackets = SOCK_SEQPACKET | SOCK_CLOEXEC;
  const long made = sys::call(SYS_socketpair, AF_UNIX, kPackets, 0, sys::arg(ends));
  if (made < 0) return made;
  constexpr long kFlags = SIGCHLD | static_cast<long>(kernel::kClonePidfd);
  const auto worker = static_cast<int32_t>(sys::call(SYS_getpid));
  const long pid = sys::call(SYS_clone, kFlags, 0, sys::arg(pidfd), 0, 0);
  if (pid == 0) {
    sys::close(ends[0]);
    command.worker = ends[1];
    await_command(fds, command, worker);
  }
  sys::close(ends[1]);
  if (pid < 0) sys::close(ends[0]);
  *socket = ends[0];
  return pid;
}

// True: it has a command, and the socket something to say about it. Whoever stops it from inside
// would have every command hang.
bool await_taking(int32_t pid, int socket, int signals) {
  for (;;) {
    pollfd watched[2] = {{socket, POLLIN, 0}, {signals, POLLIN, 0}};
    sys::call(SYS_ppoll, sys::arg(watched), 2, 0, 0, 0);
    if ((watched[0].revents & POLLIN) != 0) return true;
    if (watched[0].revents != 0) return false;
    signalfd_siginfo info;
    while (sys::read(signals, &info, sizeof info) == static_cast<long>(sizeof info)) {
    }
    int status = 0;
    const long seen = sys::call(SYS_wait4, pid, sys::arg(&status), WNOHANG | WUNTRACED, 0);
    if (seen == pid && (status & 0xff) == 0x7f) sys::call(SYS_kill, pid, SIGCONT);
  }
}

// From the message on: what is told, and to whom.
[[noreturn]] void follow(Command& command, int32_t pid, int socket, int pidfd) {
  uint32_t quiet = 0;
  Handed handed;
  const long size = receive(socket, &quiet, sizeof quiet, handed);
  if (size != static_cast<long>(sizeof quiet) || handed.count != 1) sys::exit_group(0);
  const int reply = handed.fds[0];
  if (quiet == 0) {
    char byte;
    while (sys::read(socket, &byte, 1) == -EINTR) {
    }
    tell_beginning(reply, *command.report, pid, pidfd);
  }
  sys::close(socket);
  sys::close(pidfd);
  attend(pid, reply, *command.report, quiet != 0);
}

// A process can't be had now: perhaps when the command comes, else it is refused.
long fork_late(const InitFds& fds, Command& command, int* socket, int* pidfd) {
  pollfd coming{fds.commands, POLLIN, 0};
  sys::call(SYS_ppoll, sys::arg(&coming), 1, 0, 0, 0);
  const long pid = fork_first(fds, command, socket, pidfd);
  if (pid > 0) return pid;
  refuse_command(fds.commands, static_cast<int>(-pid));
  sys::exit_group(0);
}

// Before a command comes: whatever can be done without it.
bool make_ready(const InitFds& fds, Command& command) {
  sys::prctl(PR_SET_NAME, sys::arg("pyminicon-work"));
  sys::close(fds.control);
  sys::close(fds.signals);
  sys::close(fds.status);
  sys::close(fds.taken_read);
  constexpr int kAnonymous = MAP_ANONYMOUS | MAP_PRIVATE | MAP_FIXED;
  const long room = sys::call(SYS_mmap, static_cast<long>(kCommandAddress), kMostInline,
                              PROT_READ | PROT_WRITE, kAnonymous, -1, 0);
  const long shared = sys::call(SYS_mmap, 0, sizeof(Report), PROT_READ | PROT_WRITE,
                                MAP_ANONYMOUS | MAP_SHARED, -1, 0);
  command.report = reinterpret_cast<Report*>(shared);
  return room == static_cast<long>(kCommandAddress) && (shared > 0 || shared < -4095);
}

}  // namespace

void work(const InitFds& fds) {
  Command command;
  if (!make_ready(fds, command)) sys::exit_group(1);
  // Whose parent has ended becomes this process's child, and not init's.
  sys::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const uint64_t child = uint64_t{1} << (SIGCHLD - 1);
  const auto signals = static_cast<int>(
      sys::call(SYS_signalfd4, -1, sys::arg(&child), sizeof child, SFD_CLOEXEC | SFD_NONBLOCK));
  int socket = -1, pidfd = -1;
  long pid = fork_first(fds, command, &socket, &pidfd);
  if (pid < 0) pid = fork_late(fds, command, &socket, &pidfd);
  sys::close(fds.taken_write);
  sys::close(fds.commands);
  sys::close(fds.parent);
  const auto first = static_cast<int32_t>(pid);
  if (signals < 0 || !await_taking(first, socket, signals)) sys::exit_group(0);
  sys::close(signals);
  follow(command, first, socket, pidfd);
}

void refuse_command(int commands, int error) {
  Handed got;
  CommandPlan plan;
  receive(commands, &plan, sizeof plan, got);  // what is longer is cut off
  if (got.count > kReplyFd) tell_failure(got.fds[kReplyFd], Stage::kClone, -1, error);
  for (int i = 0; i < got.count; ++i) sys::close(got.fds[i]);
}

}  // namespace pyminicon::child
