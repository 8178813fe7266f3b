#include "parent/launch/command.h"

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <utility>

#include "parent/failure.h"
#include "parent/inside/collect.h"
#include "parent/launch/job.h"

namespace pyminicon::parent {
namespace {

void add_streams(std::vector<int>& fds, const LaunchOptions& options) {
  for (const int fd : options.stdio) {
    if (fd != kNullDevice) fds.push_back(fd);
  }
  fds.insert(fds.end(), options.pass.begin(), options.pass.end());
}

std::vector<int> fds_of(int reply, const LaunchOptions& options, const Cgroup& cgroup) {
  std::vector<int> fds{reply};
  fds.insert(fds.end(), cgroup.join_fds().begin(), cgroup.join_fds().end());
  add_streams(fds, options);
  return fds;
}

// Which of the descriptors isn't open, if that is why they couldn't be sent.
void insist_on_open(const LaunchOptions& options) {
  const auto check = [](int fd, Stage stage, int name) {
    if (fd != kNullDevice && fcntl(fd, F_GETFD) < 0) {
      throw LaunchFailure(EBADF, stage, "descriptor " + std::to_string(name));
    }
  };
  for (int i = 0; i < 3; ++i) check(options.stdio[i], Stage::kStdio, i);
  for (const int fd : options.pass) check(fd, Stage::kFds, fd);
}

[[noreturn]] void fail(const CommandReply& word, const CommandSpec& command,
                       const CommandGround& ground) {
  Report report{};
  report.stage = word.stage;
  report.index = word.index;
  report.error = word.error;
  PlanSpec who;
  who.uid = command.ids.uid;
  who.gid = command.ids.gid;
  who.rlimits = ground.rlimits;
  LaunchOptions what;
  what.exec = command.exec;
  throw_failure(subject_of(who, what, {}, report), report, 0);
}

void count_time(CommandGroup& group, Launched& container, const CgroupSpec* clock) {
  if (container.cgroup && container.cgroup->counts_cpu_time()) {
    group.cgroup.add_clock_below(*container.cgroup, group.number);
  } else if (clock != nullptr) {
    group.cgroup.add_clock(*clock);
    container.living->note_apart(group.cgroup);
  } else {
    throw LaunchFailure(EOPNOTSUPP, Stage::kCgroup, "cpu_time", "nothing counts it here");
  }
}

}  // namespace

CommandGroup group_for_command(Launched& container, bool timed, const CgroupSpec* clock) {
  CommandGroup group;
  Living& living = *container.living;
  living.remove_kept();
  group.number = living.next_number();
  if (container.cgroup && living.lives()) {
    group.memory_limit = container.memory_limit;
    const bool watch_oom = group.memory_limit != 0;
    group.cgroup = living.spare_group(*container.cgroup, watch_oom);
    if (!group.cgroup) group.cgroup = Cgroup::below(*container.cgroup, group.number, watch_oom);
  }
  if (timed && !group.cgroup.counts_cpu_time()) count_time(group, container, clock);
  return group;
}

namespace {

Launched made_of(const std::shared_ptr<Living>& container, Fd reply, bool quiet,
                 CommandGroup group) {
  Launched made(container, std::move(reply), quiet, group.number);
  if (!group.cgroup) return made;
  made.counted = group.cgroup.has_directory();
  made.memory_limit = group.memory_limit;
  made.cgroup.emplace(std::move(group.cgroup));
  return made;
}

// It is on its way, and is heard of from now on.
void note_sent(Launched& made, const CommandSpec& command, const LaunchOptions& options) {
  made.quiet = command.quiet;
  made.unborn = !command.quiet;
  made.started = now_ns();
  if (options.trace) made.trace.emplace_back("prepare", 0);
}

std::optional<Runner> runner_for(Launched& container) {
  CommandGroup group = group_for_command(container, false, nullptr);
  Pipe line = make_socketpair(), reply = make_socketpair();
  Arena arena;
  const auto joins = static_cast<uint32_t>(group.cgroup.join_fds().size());
  CommandSpec nothing;
  nothing.kind = CommandKind::kAwait;
  nothing.quiet = true;
  const int none[] = {kNullDevice, kNullDevice, kNullDevice};
  build_command(nothing, {}, {none, false, {}, joins}, arena);
  arena.at<CommandPlan>(0).number = group.number;
  std::vector<int> fds{reply.write.get()};
  fds.insert(fds.end(), group.cgroup.join_fds().begin(), group.cgroup.join_fds().end());
  fds.push_back(line.write.get());
  if (!container.living->send_ahead(arena, fds)) return std::nullopt;
  group.cgroup.close_join_fds();
  return Runner{
      std::move(line.read), std::move(reply.read), group.number, std::move(group.cgroup), 0, Fd()};
}

}  // namespace

bool wants_runner(const Launched& container) {
  const bool alive = !container.reaped && !container.doomed && container.living;
  return alive && container.cgroup && container.cgroup->is_slow_to_join() &&
         container.living->has_no_runner();
}

void make_runner(Launched& container) {
  if (!wants_runner(container) || !container.cgroup->has_many_processes()) return;
  Living& living = *container.living;
  if (!living.begin_runner()) return;
  std::optional<Runner> runner;
  try {
    runner = runner_for(container);
  } catch (const LaunchFailure&) {  // a command that meets the same will tell of it
  } catch (...) {
    living.keep_runner(std::nullopt);
    throw;
  }
  living.keep_runner(std::move(runner));
}

std::optional<Launched> send_to_runner(const std::shared_ptr<Living>& container,
                                       const CommandSpec& command, const LaunchOptions& options,
                                       Runner runner, uint64_t memory_limit) {
  Arena arena;
  build_command(command, container->ground(), {options.stdio, options.terminal, options.pass, 0},
                arena);
  std::vector<int> fds;
  add_streams(fds, options);
  if (!container->send_to(runner, arena, fds)) {
    container->let_go_of(std::move(runner));
    return std::nullopt;
  }
  CommandGroup group{runner.number, std::move(runner.cgroup), memory_limit};
  const int line = runner.line.get();
  Fd heard_by = std::move(command.quiet ? runner.reply : runner.line);
  Launched made = made_of(container, std::move(heard_by), false, std::move(group));
  Fd reply = command.quiet ? Fd() : std::move(runner.reply);
  made.command->begun_by_runner(runner.pid, std::move(runner.pidfd), line, std::move(reply));
  note_sent(made, command, options);
  return made;
}

Launched send_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                      const LaunchOptions& options, CommandGroup group) {
  reap_abandoned();
  Pipe ends = command.quiet ? make_pipe(O_NONBLOCK) : make_socketpair();
  const uint32_t number = group.number;
  Launched made = made_of(container, std::move(ends.read), command.quiet, std::move(group));
  Arena arena;
  const Cgroup none;
  const Cgroup& cgroup = made.cgroup ? *made.cgroup : none;
  const auto joins = static_cast<uint32_t>(cgroup.join_fds().size());
  const CommandFds fds{options.stdio, options.terminal, options.pass, joins};
  build_command(command, container->ground(), fds, arena);
  arena.at<CommandPlan>(0).number = number;
  made.reaped = true;  // until it was sent there is nothing to be ended
  try {
    const auto sent = fds_of(ends.write.get(), options, cgroup);
    made.command->begun(container->send(arena, sent, patience_of(options)));
  } catch (const LaunchFailure& failure) {
    if (failure.error == EBADF) insist_on_open(options);
    throw;
  }
  if (made.cgroup) made.cgroup->close_join_fds();
  made.reaped = false;
  note_sent(made, command, options);
  return made;
}

bool heard_of(Launched& made, const Living& container, const CommandSpec& command) {
  if (!made.unborn) return true;
  CommandReply word{};
  const std::optional<bool> told = made.command->heard(word);
  if (!told) return false;
  made.unborn = false;
  made.wait_by_reply();
  made.started = now_ns();
  // Without a word and with its container alive it was killed by somebody inside, its worker first:
  // a command that has ended.
  made.reaped = *told ? word.word == CommandWord::kFailed : container.ended();
  if (made.reaped && !*told) throw LaunchFailure(ESHUTDOWN, Stage::kClone, "");
  if (!*told && !made.doomed && made.command->never_began()) {
    made.reaped = made.doomed = true;
    throw NeverBegan{};
  }
  if (made.reaped) fail(word, command, container.ground());
  made.pid = word.pid;
  if (!made.trace.empty()) made.trace.emplace_back("started", made.started - made.begun);
  return true;
}

void insist_on_beginning(const Launched& made, const Living& container,
                         const CommandSpec& command) {
  if (made.command->never_began()) {
    if (!made.doomed && !container.ended()) throw NeverBegan{};
  } else if (made.command->failure()) {
    fail(*made.command->failure(), command, container.ground());
  }
}

Launched start_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                       const LaunchOptions& options, CommandGroup group) {
  Launched made = send_command(container, command, options, std::move(group));
  await_beginning(made, *container, command, options);
  return made;
}

void await_beginning(Launched& made, const Living& container, const CommandSpec& command,
                     const LaunchOptions& options) {
  while (!heard_of(made, container, command)) {
    if (!readable_within(patience_of(options), made.pidfd.get())) throw SetupTimeout{};
  }
}

}  // namespace pyminicon::parent
