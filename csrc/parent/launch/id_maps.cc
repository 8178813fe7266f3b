#include "parent/launch/id_maps.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>

#include "base/syscall.h"
#include "parent/failure.h"
#include "parent/files/fd.h"
#include "parent/process/clone.h"
#include "parent/process/own_proc.h"

namespace pyminicon::parent {
namespace {

void write_map(int pid, const char* name, const std::string& text) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  const Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), text.data(), text.size()) < 0) {
    throw LaunchFailure(errno, Stage::kUserns, name);
  }
}

struct Mapper {
  const char* path;
  char* const* argv;
  int null;
  long error;  // of an exec that failed
};

// In borrowed memory: raw system calls only, as in csrc/child. A setuid program gets nothing of the
// caller's but its arguments.
void exec_mapper(void* argument) {
  auto& mapper = *static_cast<Mapper*>(argument);
  char* envp[] = {nullptr};
  for (int fd = 0; fd < 3; ++fd) sys::call(SYS_dup3, mapper.null, fd, 0);
  sys::call(kernel::kSysCloseRange, 3, ~0U, kernel::kCloseRangeCloexec);
  const uint64_t none = 0;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&none), 0, sizeof none);
  mapper.error =
      sys::call(SYS_execve, sys::arg(mapper.path), sys::arg(mapper.argv), sys::arg(envp));
  sys::exit_group(127);
}

// One that is killed before it has mapped anything, and reaped if that is soon.
void end_mapper(const Fd& pidfd) {
  syscall(kernel::kSysPidfdSendSignal, pidfd.get(), SIGKILL, nullptr, 0);
  readable_within({now_ns() + 1000 * kMillisecond}, pidfd.get());
  reap(pidfd.get(), WNOHANG);
}

// Its status isn't asked for: exec makes SIGCHLD its exit signal again, so a program that ignores
// that, or waits for all its children, may have taken it. What counts is the map.
void run_to_end(Mapper& mapper, const Patience& patience) {
  kernel::CloneArgs args{};
  int number = -1;
  args.flags = kernel::kClonePidfd;
  args.pidfd = reinterpret_cast<uint64_t>(&number);
  const long pid = clone_and_wait(args, exec_mapper, &mapper);
  if (pid < 0) throw LaunchFailure(static_cast<int>(-pid), Stage::kUserns, mapper.path);
  const Fd pidfd(number);
  bool ended = false;
  try {
    ended = readable_within(patience, pidfd.get());
  } catch (...) {
    end_mapper(pidfd);
    throw;
  }
  if (!ended) {
    end_mapper(pidfd);
    throw SetupTimeout{};
  }
  reap(pidfd.get(), WNOHANG);
  if (mapper.error < 0) {
    throw LaunchFailure(static_cast<int>(-mapper.error), Stage::kUserns, mapper.path);
  }
}

bool has_map(int pid, const char* name) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char byte;
  return fd && ::read(fd.get(), &byte, 1) == 1;
}

std::string why_refused() {
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
    return "the calling process has no_new_privs, with which no program gains the power to map ids";
  }
  return "the range must be the caller's in /etc/subuid and /etc/subgid, and newuidmap and "
         "newgidmap "
         "setuid or with their file capabilities";
}

// "0 100000 65536\n" lines become the tool's arguments.
void run_mapper(const std::vector<std::string>& command, int pid, const char* map,
                const Patience& patience) {
  std::vector<std::string> words{command[0], std::to_string(pid)};
  words.insert(words.end(), command.begin() + 1, command.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) throw LaunchFailure(errno, Stage::kUserns, "/dev/null");
  Mapper mapper{argv[0], argv.data(), null.get(), 0};
  run_to_end(mapper, patience);
  if (!has_map(pid, map)) throw LaunchFailure(EPERM, Stage::kUserns, command[0], why_refused());
}

}  // namespace

// "0 100000 65536\n1000 ...": the id outside that 0 stands for.
static uint32_t outside_of_zero(const std::string& map) {
  // Not by a stream: it alone would bring the locales of libstdc++, half of what is loaded.
  const char* at = map.c_str();
  while (*at != 0) {
    char* rest;
    const auto inside = std::strtoul(at, &rest, 10), outside = std::strtoul(rest, &rest, 10);
    if (inside == 0) return static_cast<uint32_t>(outside);
    std::strtoul(rest, &rest, 10);
    at = rest + (*rest == '\n');
  }
  return 0;
}

void give_to_root_of(const PlanSpec& spec, const std::string& directory) {
  const uint32_t uid = outside_of_zero(*spec.uid_map), gid = outside_of_zero(*spec.gid_map);
  if (chown(directory.c_str(), uid, gid) < 0) {
    throw LaunchFailure(errno, Stage::kPrepare, directory);
  }
}

void write_id_maps(const PlanSpec& spec, int pid, const Patience& patience) {
  insist_on_own_proc(Stage::kUserns);
  if (spec.uid_mapper.empty()) {
    write_map(pid, "gid_map", *spec.gid_map);
    write_map(pid, "uid_map", *spec.uid_map);
  } else {
    run_mapper(spec.gid_mapper, pid, "gid_map", patience);
    run_mapper(spec.uid_mapper, pid, "uid_map", patience);
  }
}

}  // namespace pyminicon::parent
