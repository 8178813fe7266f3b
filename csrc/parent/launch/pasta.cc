#include "parent/launch/pasta.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/clone.h"
#include "base/kernel.h"
#include "base/syscall.h"
#include "child/birth/separate_memory.h"
#include "parent/failure.h"
#include "parent/process/clone.h"
#include "parent/process/helper_image.h"
#include "parent/process/own_proc.h"

namespace pyminicon::parent {
namespace {

struct PastaStart {
  int helper, container, netns, report;
  bool joins;
  char* const* argv;
  int pidfd = -1;
  int error = 0;
};

// In borrowed memory: raw system calls only, as in csrc/child.
void exec_keeper(void* argument) {
  auto& start = *static_cast<PastaStart*>(argument);
  char* envp[] = {nullptr};
  sys::call(SYS_setsid);
  sys::call(SYS_chdir, sys::arg("/"));
  sys::call(kernel::kSysCloseRange, 0, ~0U, kernel::kCloseRangeCloexec);
  for (const int fd : {start.container, start.netns, start.report}) sys::fcntl(fd, F_SETFD, 0);
  if (start.joins) child::keep_capabilities_across_exec();
  start.error =
      static_cast<int>(-sys::call(SYS_execveat, start.helper, sys::arg(""), sys::arg(start.argv),
                                  sys::arg(envp), kernel::kAtEmptyPath));
  sys::exit_group(127);
}

// A child in between, as the guards have one: what is cloned here is nobody's child. Whoever owns
// the container's user namespace has its capabilities by going there; no id changes, so the
// caller's memory stays as readable as it was.
void clone_keeper(void* argument) {
  auto& start = *static_cast<PastaStart*>(argument);
  alignas(16) char stack[8192];
  kernel::CloneArgs args{};
  // A core would be a picture of the caller's memory; 1, and not 0, for a pattern that is a pipe.
  constexpr uint64_t kNoCore[2] = {1, 1};
  sys::call(SYS_prlimit64, 0, 4 /* RLIMIT_CORE */, sys::arg(kNoCore), 0);
  long result = 0;
  if (start.joins) {
    result = sys::call(SYS_setns, start.container, static_cast<long>(kernel::kCloneNewuser));
  }
  if (result >= 0) {
    args.flags = kernel::kCloneVm | kernel::kCloneVfork | kernel::kClonePidfd |
                 kernel::kCloneNewpid;  // this frame sleeps until the exec
    args.pidfd = reinterpret_cast<uint64_t>(&start.pidfd);
    args.stack = reinterpret_cast<uint64_t>(stack);
    args.stack_size = sizeof stack;
    args.exit_signal = SIGCHLD;
    result = clone_onto_stack(&args, exec_keeper, argument);
  }
  if (result < 0) start.error = static_cast<int>(-result);
  for (;;) sys::call(SYS_exit, 0);
}

// Answers the keeper's pidfd.
Fd run_keeper(PastaStart& start) {
  kernel::CloneArgs args{};
  int pidfd = -1;
  args.flags = kernel::kClonePidfd | kernel::kCloneFiles;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long between = clone_and_wait(args, clone_keeper, &start);
  if (between < 0) throw LaunchFailure(static_cast<int>(-between), Stage::kNetwork, "clone3");
  Fd keeper(start.pidfd);
  const Fd ended(pidfd);
  reap(pidfd);
  if (start.error != 0) throw LaunchFailure(start.error, Stage::kNetwork, "pyminicon-pasta");
  return keeper;
}

Fd namespace_of(int pid, const char* name) {
  insist_on_own_proc(Stage::kNetwork);
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/" + name;
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw LaunchFailure(errno, Stage::kNetwork, path);
  return fd;
}

// The last of its lines says why it has given up.
std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  text.erase(0, text.rfind('\n') + 1);
  std::replace_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

[[noreturn]] void fail(const std::string& program, const std::string& word) {
  constexpr const char* kInstall = "install the package passt: apt-get install passt";
  if (word.size() > 2 && word[0] == 'x') {
    throw LaunchFailure(word[2], Stage::kNetwork, program, kInstall);
  }
  if (word.size() == 2 && word[0] == 'k') {
    throw LaunchFailure(word[1], Stage::kNetwork, "pyminicon-pasta");
  }
  const std::string said = word.empty() ? "" : word.substr(1);
  if (said.find("unrecognized option") != std::string::npos ||
      said.find("invalid option") != std::string::npos) {
    throw LaunchFailure(EOPNOTSUPP, Stage::kNetwork, program,
                        "it is too old: install passt of 2023 or later (apt-get install passt)");
  }
  if (said.find(" tun ") != std::string::npos || said.find("/dev/net/tun") != std::string::npos) {
    throw LaunchFailure(
        EACCES, Stage::kNetwork, program,
        "it can't open /dev/net/tun, which must be there (modprobe tun) and writable "
        "for whom it runs as (chmod 0666 /dev/net/tun)");
  }
  const std::string why = last_line(said);
  throw LaunchFailure(ENETDOWN, Stage::kNetwork, program,
                      why.empty() ? "it has ended without a word" : "it says: " + why);
}

}  // namespace

void WayOut::end() {
  line_.reset();  // its sign to end
  if (!pidfd_) return;
  syscall(kernel::kSysPidfdSendSignal, pidfd_.get(), SIGKILL, nullptr, 0);  // it may be stopped
  // The child of whoever takes up orphans; as a rule not of this process.
  reap(pidfd_.get(), WNOHANG);
  pidfd_.reset();
}

WayOut make_way_out(const std::vector<std::string>& command, int pid, int pidfd, bool joins,
                    const Patience& patience) {
  constexpr int64_t kMost = 10000000000;  // ns; as a rule it takes some milliseconds
  const Fd netns = namespace_of(pid, "net");
  const Fd helper = helper_image();
  Pipe report = make_socketpair();
  std::vector<std::string> words{"pyminicon-pasta", "pasta", std::to_string(pidfd),
                                 std::to_string(netns.get()), std::to_string(report.write.get())};
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  PastaStart start{helper.get(), pidfd, netns.get(), report.write.get(), joins, argv.data()};
  WayOut made;
  made.pidfd_ = run_keeper(start);
  made.line_ = std::move(report.read);
  report.write.reset();
  Patience bounded = patience;
  bounded.deadline = std::min(patience.deadline, now_ns() + kMost);
  if (!readable_within(bounded, made.line_.get())) {
    if (bounded.deadline == patience.deadline || now_ns() < bounded.deadline) throw SetupTimeout{};
    throw LaunchFailure(ETIMEDOUT, Stage::kNetwork, command[0]);
  }
  char text[700];
  const ssize_t got = ::read(made.line_.get(), text, sizeof text);
  if (got == 1 && text[0] == 'r') return made;
  fail(command[0], std::string(text, got > 0 ? static_cast<size_t>(got) : 0));
}

}  // namespace pyminicon::parent
