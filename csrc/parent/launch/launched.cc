// What becomes of a started container: kill, reap, remove.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <vector>

#include "parent/launch/launch.h"
#include "parent/launch/scratch.h"
#include "parent/process/clone.h"

namespace pyminicon::parent {
namespace {

// PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux 6.15): the status of a process that somebody else
// reaped.
struct PidfdInfo {
  uint64_t mask, cgroupid;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
  uint32_t coredump_mask, spare;
};
constexpr uint64_t kInfoExit = 1 << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

constexpr unsigned long kPidfdGetMountNamespace = _IO(0xFF, 3);  // Linux 6.11

std::optional<int> as_returncode(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  if (WIFSIGNALED(status)) return -WTERMSIG(status);
  return std::nullopt;
}

// A pidfd tells of the end a moment before the kernel lets go of the process, and of its status
// only then.
std::optional<int> stolen_status(int pidfd) {
  constexpr int kMostMilliseconds = 1000;
  for (int waited = 0; waited < kMostMilliseconds; ++waited) {
    PidfdInfo info{};
    info.mask = kInfoExit;
    if (ioctl(pidfd, kPidfdGetInfo, &info) < 0) return std::nullopt;
    if ((info.mask & kInfoExit) != 0) return as_returncode(info.exit_code);
    pollfd gone{pidfd, 0, 0};  // POLLHUP
    poll(&gone, 1, 1);
  }
  return std::nullopt;
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// The state letter of proc_pid_stat(5): the field after the name, which may hold anything.
char state_of(int pid) {
  char path[32], text[512];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t got = file ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (got <= 0) return 0;
  text[got] = 0;
  const char* name_end = std::strrchr(text, ')');
  return name_end != nullptr && name_end[1] == ' ' ? name_end[2] : 0;
}

// Whether it waits for the server of a file system, or for somebody who asks for the same name
// there, by the name of the kernel's function it is in.
bool waits_for_a_server(int pid) {
  char path[32], text[64];
  std::snprintf(path, sizeof path, "/proc/%d/wchan", pid);
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t got = file ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (got <= 0) return false;
  text[got] = 0;
  constexpr const char* kIn[] = {"request_wait_answer", "fuse_",        "nfs", "rpc_",
                                 "d_alloc_parallel",    "d_wait_lookup"};
  return std::any_of(std::begin(kIn), std::end(kIn),
                     [&text](const char* word) { return std::strstr(text, word) != nullptr; });
}

bool is_stuck(int pid, bool soon) {
  return state_of(pid) == 'D' && (!soon || waits_for_a_server(pid));
}

// pid 1 itself, or a process that it has to wait for before it may end. `soon`: what waits for a
// disk has not been given its time.
bool sleeps_for_ever(int pid, bool soon) {
  if (is_stuck(pid, soon)) return true;
  char path[64], text[4096];
  std::snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t got = file ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (got <= 0) return false;
  text[got] = 0;
  for (char *at = text, *end = nullptr; const long child = std::strtol(at, &end, 10); at = end) {
    if (is_stuck(static_cast<int>(child), soon)) return true;
  }
  return false;
}

// Containers that were killed and can't die yet. A process that waits for the answer of a FUSE
// server which has read its request isn't killable (request_wait_answer), so it stays until that
// server goes; whoever waited for it would wait as long. It dies the moment the kernel lets it, and
// is then reaped by the next launch. Also those whose layer on disk couldn't be removed.
struct Abandoned {
  std::mutex lock;
  std::vector<Launched> list;
  uint64_t generation = fork_generation();
};
std::atomic<Abandoned*> abandoned{nullptr};

}  // namespace

void reap_abandoned() {
  if (abandoned.load(std::memory_order_relaxed) == nullptr) return;
  Abandoned& all = of_this_process(abandoned);
  const std::lock_guard lock(all.lock);
  std::erase_if(all.list, [](Launched& one) {
    return (!one.pidfd || one.reap(false)) && one.remove_leftovers();
  });
}

bool Launched::owned() const { return generation_ == fork_generation(); }

void Launched::kill() {
  if (!owned() || reaped || !pidfd) return;
  doomed = true;
  wait_by_reply();
  if (kill_by_cgroup && cgroup) cgroup->kill();
  if (command && !alone) {
    const bool starved = is_out_of_memory();
    if (starved) cgroup->signal_all();
    command->end(cgroup && (cgroup->kill_at_once() || starved));
  } else {
    signal(SIGKILL);
  }
  if (cgroup) cgroup->let_go();
}

// A victim of the OOM killer is no victim any more as soon as it has let go of its memory, which
// takes the kernel a while to free. An init that looks through /proc meanwhile allocates, nothing
// is there yet, and the kernel looks for another victim: a command that has done nothing. So what
// is left of such a command is killed from here.
bool Launched::is_out_of_memory() const { return command && cgroup && cgroup->oom_killed(); }

void Launched::wait_by_reply() {
  if (!command) return;
  if (Fd reply = command->take_reply()) pidfd = std::move(reply);
}

void Launched::signal(int number) {
  const int whom = command ? command->pidfd() : pidfd.get();
  syscall(kernel::kSysPidfdSendSignal, whom, number, nullptr, 0);
}

void Launched::freeze(bool frozen) {
  if (living && living->lives()) cgroup->divide();
  // Before anything is frozen: whoever ends it in our stead has to let it go.
  const std::string freezer = cgroup->v1_freezer();
  if (frozen && !freezer.empty()) watch_.set_cgroup(freezer, kill_by_cgroup);
  cgroup->freeze(frozen);
}

// Blocks by poll and not by waitid: a blocking waitid whose child another thread reaps, or whose
// SIGCHLD is ignored, sleeps until the last child of the process is gone.
bool Launched::reap(bool block) {
  if (reaped) return true;
  if (command) return reap_command(block);
  pollfd watched{pidfd.get(), POLLIN, 0};
  const int64_t from = now_ns();
  while (poll(&watched, 1, block ? 100 : 0) <= 0) {
    if (!block || hopeless(now_ns() - from)) return false;
  }
  siginfo_t info{};
  rusage usage{};
  // The raw call: glibc's waitid has no rusage.
  const long result =
      syscall(SYS_waitid, 3 /* P_PIDFD */, pidfd.get(), &info, WEXITED | __WALL, &usage);
  reaped = true;
  ended = now_ns();
  if (result < 0) {
    returncode = stolen_status(pidfd.get());
  } else {
    returncode = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    user = seconds(usage.ru_utime);
    system = seconds(usage.ru_stime);
  }
  watch_.release();
  way_out_.end();
  close_by_reaper(std::move(held_mounts_));
  int word = 0;
  if (init_status_ && ::read(init_status_.get(), &word, sizeof word) == sizeof word) {
    returncode = as_returncode(word);
  }
  init_status_.reset();
  return true;
}

bool Launched::reap_command(bool block) {
  const int64_t from = now_ns();
  std::optional<CommandEnd::Ended> end;
  while (!(end = command->look())) {
    pollfd watched{pidfd.get(), POLLIN, 0};
    if (!block || (poll(&watched, 1, 100) <= 0 && hopeless(now_ns() - from))) return false;
  }
  reaped = true;
  ended = now_ns();
  returncode = end->known ? as_returncode(end->status) : -SIGKILL;
  if (!end->known) return true;
  if (quiet) started = ended - end->lasted;
  if (started != 0) ended = started + end->lasted;
  user = end->user;
  system = end->system;
  return true;
}

void Launched::undo_later() {
  const MakingFds making;
  const int fd = ioctl(pidfd.get(), kPidfdGetMountNamespace, 0);
  if (fd >= 0 || errno != ENOTTY) {  // ESRCH: it has ended already
    held_mounts_ = Fd(fd);
    return;
  }
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
  held_mounts_ = Fd(::open(path, O_RDONLY | O_CLOEXEC));
}

void Launched::keep_usage() {
  if (cgroup) last_usage = cgroup->usage();
}

bool Launched::remove_leftovers() {
  if (!owned()) return true;
  if (kill_by_cgroup && cgroup) cgroup->kill();
  if (command && cgroup) command->leave(std::move(*cgroup), !doomed);
  if (!command && living) living->remove_spares();
  if (!command && cgroup) cgroup->remove();
  // Locked it stays, and is tried again.
  if (!scratch_dir_.empty() && !remove_scratch(scratch_dir_)) return false;
  scratch_dir_.clear();
  // Said aloud: a worker that was forked as it was opened would hold the lock as long as it lives.
  if (scratch_lock_) flock(scratch_lock_.get(), LOCK_UN);
  scratch_lock_.reset();
  return true;
}

bool Launched::hopeless(int64_t killed_for) const {
  constexpr int64_t kSecond = 1000000000;
  if (command) {
    if (is_out_of_memory() && killed_for < kSecond) {
      cgroup->signal_all();
    } else {
      command->remind();
    }
    return killed_for >= 5 * kSecond;
  }
  if (killed_for < kSecond / 4) return false;
  return killed_for >= 5 * kSecond || sleeps_for_ever(pid, killed_for < kSecond);
}

Launched::~Launched() {
  if (!owned()) return;
  kill();
  if ((!pidfd || reap(!given_up)) && remove_leftovers()) return;
  Abandoned& all = of_this_process(abandoned);
  const std::lock_guard lock(all.lock);
  all.list.push_back(std::move(*this));
}

}  // namespace pyminicon::parent
