#include "parent/launch/command.h"

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <utility>

#include "parent/launch/job.h"
#include "parent/process/collect.h"
#include "parent/process/failure.h"

namespace pyminicon::parent {
namespace {

std::vector<int> fds_of(int reply, const LaunchOptions& options) {
  std::vector<int> fds{reply};
  for (const int fd : options.stdio) {
    if (fd != kNullDevice) fds.push_back(fd);
  }
  fds.insert(fds.end(), options.pass.begin(), options.pass.end());
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

}  // namespace

Launched start_command(const std::shared_ptr<Living>& container, const CommandSpec& command,
                       const LaunchOptions& options) {
  reap_abandoned();
  Pipe ends = make_socketpair();
  const uint32_t number = container->next_number();
  Launched made(container, std::move(ends.read), number);
  Arena arena;
  const CommandFds fds{options.stdio, options.terminal, options.pass, 0};
  build_command(command, container->ground(), fds, arena);
  arena.at<CommandPlan>(0).number = number;
  made.reaped = true;  // until it was sent there is nothing to be ended
  try {
    container->send(arena, fds_of(ends.write.get(), options), patience_of(options));
  } catch (const LaunchFailure& failure) {
    if (failure.error == EBADF) insist_on_open(options);
    throw;
  }
  made.reaped = false;
  ends.write.reset();
  CommandReply word{};
  const bool told = made.command->await_birth(patience_of(options), word);
  // Without a word and with its container alive it was killed by somebody inside, its worker first:
  // a command that has ended.
  made.reaped = told ? word.word == CommandWord::kFailed : container->ended();
  if (made.reaped && !told) throw LaunchFailure(ESHUTDOWN, Stage::kClone, "");
  if (made.reaped) fail(word, command, container->ground());
  made.pid = word.pid;
  made.started = now_ns();
  if (options.trace) made.trace = {{"prepare", 0}, {"started", made.started - made.begun}};
  return made;
}

}  // namespace pyminicon::parent
