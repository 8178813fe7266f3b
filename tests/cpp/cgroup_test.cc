// Facts about parent/cgroup/cgroup.h on this machine's own cgroup tree, whichever version it is.
// Without a tree that this user may write to, the facts that need one are reported as not shown.
#include "parent/cgroup/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "parent/cgroup/file.h"
#include "parent/failure.h"

using namespace pyminicon::parent;

namespace {

int failures = 0;

void check(bool holds, const char* what, int line) {
  if (holds) return;
  ++failures;
  std::printf("  FAILED line %d: %s\n", line, what);
}
#define CHECK(condition) check(condition, #condition, __LINE__)

// A directory for one controller: v1's where it is mounted, else v2's.
struct Tree {
  std::string parent;
  bool v2 = false;
};

std::string caller_cgroup(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (line.substr(first + 1, second - first - 1) == controller) return line.substr(second + 1);
  }
  return "";
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Tree tree_for(const std::string& controller) {
  const std::string v1 = "/sys/fs/cgroup/" + controller;
  if (exists(v1 + "/tasks")) {
    const std::string path = caller_cgroup(controller);
    return {path == "/" ? v1 : v1 + path, false};
  }
  const std::string mount =
      exists("/sys/fs/cgroup/cgroup.procs") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
  const std::string path = caller_cgroup("");
  const std::string parent = path == "/" ? mount : mount + path;
  const std::string name = controller == "blkio" ? "io" : controller;
  if (controller != "freezer" && controller != "cpuacct") {
    write_file(parent + "/cgroup.subtree_control", "+" + name);
    const auto enabled = read_file(parent + "/cgroup.subtree_control").value_or("");
    if (enabled.find(name) == std::string::npos) return {};
  }
  return {exists(mount + "/cgroup.procs") ? parent : "", true};
}

struct Need {
  const char* controller;
  uint32_t role;
  const char* v1_file;
  const char* v2_file;
  const char* value;
};

constexpr Need kMemory{"memory", kRoleMemory, "memory.limit_in_bytes", "memory.max", "33554432"};
constexpr Need kPids{"pids", kRolePids, "pids.max", "pids.max", "32"};
constexpr Need kClock{"cpuacct", kRoleCpuTime, "", "", ""};
constexpr Need kFreezer{"freezer", kRoleFreezer, "", "", ""};

// The tests' own prefix: no sweeper takes it for a dead owner's.
std::string prefix() { return "pyminicon_test-" + std::to_string(::getpid()); }

CgroupSpec spec_for(const std::vector<Need>& needs) {
  CgroupSpec spec;
  spec.prefix = prefix();
  spec.remedy = "the remedy";
  for (const Need& need : needs) {
    const Tree tree = tree_for(need.controller);
    uint32_t at = 0;
    while (at < spec.directories.size() && spec.directories[at].parent != tree.parent) ++at;
    if (at == spec.directories.size()) spec.directories.push_back({tree.parent, "", 0, true});
    auto& directory = spec.directories[at];
    directory.roles |= need.role;
    if (tree.v2) directory.roles |= kRoleV2 | kRoleCpuTime | kRoleFreezer;
    const char* file = tree.v2 ? need.v2_file : need.v1_file;
    if (*file != 0) spec.writes.push_back({at, file, need.value, false});
    if (need.role == kRoleMemory && tree.v2) {
      spec.writes.push_back({at, "memory.swap.max", "0", true});
    }
  }
  return spec;
}

bool can_make(const std::vector<Need>& needs) {
  const CgroupSpec spec = spec_for(needs);
  for (const auto& directory : spec.directories) {
    if (directory.parent.empty() || ::access(directory.parent.c_str(), W_OK) != 0) return false;
  }
  return true;
}

// Starts `body` in a child that is in the cgroup from its first instruction on.
pid_t start_in(const Cgroup& cgroup, const std::function<void()>& body) {
  clone_args args{};
  args.exit_signal = SIGCHLD;
  if (cgroup.clone_into_fd() >= 0) {
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup.clone_into_fd());
  }
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid != 0) return static_cast<pid_t>(pid);
  for (const int fd : cgroup.join_fds()) {
    if (::write(fd, "0", 1) != 1) ::_exit(99);
  }
  body();
  ::_exit(0);
}

int wait_for(pid_t pid) {
  int status = -1;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

void touch_memory(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (size_t at = 0; at < bytes; at += 4096) static_cast<volatile char*>(memory)[at] = 1;
}

[[noreturn]] void sleep_forever() {
  for (;;) ::pause();
}

int open_fds() {
  int count = 0;
  DIR* stream = ::opendir("/proc/self/fd");
  while (::readdir(stream) != nullptr) ++count;
  ::closedir(stream);
  return count;
}

bool anything_left(const CgroupSpec& spec) {
  bool left = false;
  for (const auto& directory : spec.directories) {
    DIR* stream = ::opendir(directory.parent.c_str());
    while (const dirent* entry = stream != nullptr ? ::readdir(stream) : nullptr) {
      if (std::string(entry->d_name).starts_with(prefix() + "-")) {
        std::printf("  left: %s/%s\n", directory.parent.c_str(), entry->d_name);
        left = true;
      }
    }
    if (stream != nullptr) ::closedir(stream);
  }
  return left;
}

void numbers_are_read_and_garbage_is_nothing() {
  CHECK(number("17\n") == 17);
  CHECK(!number("max\n") && !number("") && !number("-1\n") && !number("17x") && !number({}));
  CHECK(!number("99999999999999999999999\n"));
  const std::string events = "low 0\noom 3\noom_kill 2\noom_kill_extra 9\n";
  CHECK(field(events, "oom_kill") == 2);
  CHECK(field(events, "oom") == 3);
  CHECK(!field(events, "oom_k") && !field("oom_kill", "oom_kill") && !field({}, "x"));
  CHECK(!field("\n\n\n", "x") && field("\nx 1", "x") == 1);
}

void a_cgroup_is_made_and_removed() {
  const CgroupSpec spec = spec_for({kMemory, kPids});
  const int fds = open_fds();
  {
    Cgroup cgroup = Cgroup::make(spec);
    CHECK(cgroup && cgroup.binds().size() == spec.directories.size());
    for (const auto& [path, name] : cgroup.binds()) CHECK(exists(path + "/cgroup.procs"));
    Cgroup moved = std::move(cgroup);
    CHECK(moved && !cgroup && cgroup.join_fds().empty() && cgroup.clone_into_fd() == -1);
  }
  CHECK(!anything_left(spec));
  CHECK(open_fds() == fds);
}

void a_refused_limit_undoes_all() {
  CgroupSpec spec = spec_for({kMemory, kPids});
  spec.writes.push_back({0, "no.such.file", "1", false});
  const int fds = open_fds();
  int error = 0;
  std::string subject;
  try {
    Cgroup::make(spec);
  } catch (const LaunchFailure& failure) {
    error = failure.error;
    subject = failure.subject;
  }
  // The kernel lets nobody create files there; root gets as far as "permission denied".
  CHECK(error == ENOENT || error == EACCES);
  CHECK(subject.find("no.such.file: 1") != std::string::npos);
  CHECK(!anything_left(spec));
  CHECK(open_fds() == fds);
}

void a_refused_directory_ends_the_launch_only_when_it_must_be() {
  CgroupSpec spec = spec_for({kPids});
  spec.directories.push_back({"/sys/fs/cgroup/no/such/cgroup", "", kRoleIo, false});
  // What completes it isn't written anywhere else.
  spec.writes.push_back(
      {static_cast<uint32_t>(spec.directories.size() - 1), "cpuset.cpus", "0", false});
  {
    const Cgroup cgroup = Cgroup::make(spec);
    CHECK(cgroup.binds().size() == 1);
    CHECK(!cgroup.usage().io_read);
  }
  spec.directories.back().required = true;
  bool thrown = false;
  try {
    Cgroup::make(spec);
  } catch (const LaunchFailure& failure) {
    thrown = failure.error == ENOENT || failure.error == EACCES || failure.error == EROFS;
    CHECK(!failure.hint.empty());
  }
  CHECK(thrown);
  CHECK(!anything_left(spec));
}

void threads_get_cgroups_of_their_own() {
  const CgroupSpec spec = spec_for({kPids});
  std::vector<std::string> names(64);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int at = thread * 8; at < thread * 8 + 8; ++at) {
        names[at] = Cgroup::make(spec).binds().at(0).first;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(std::set(names.begin(), names.end()).size() == names.size());
  CHECK(!anything_left(spec));
}

void a_hog_dies_and_it_is_told() {
  CgroupSpec spec = spec_for({kMemory});
  spec.watch_oom = true;
  Cgroup cgroup = Cgroup::make(spec);
  CHECK(cgroup.oom_fd() >= 0 && !cgroup.oom_killed());
  pollfd wait{cgroup.oom_fd(), cgroup.oom_poll_events(), 0};
  CHECK(::poll(&wait, 1, 0) == 0);
  const pid_t hog = start_in(cgroup, [] { touch_memory(256U << 20); });
  // As a supervisor does it: look after each event, poll again.
  int events = 0;
  bool killed = false;
  while (!killed && ::poll(&wait, 1, 5000) == 1) {
    ++events;
    cgroup.clear_oom_event();
    killed = cgroup.oom_killed_within(1'000'000);
  }
  CHECK(killed);
  const int status = wait_for(hog);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  std::printf("  %d events until the kill was counted\n", events);
  const auto peak = cgroup.usage().memory_peak;
  if (peak) {
    std::printf("  peak of the hog under 32 MiB: %.2f MiB\n", double(*peak) / (1 << 20));
    CHECK(*peak > (30U << 20) && *peak <= (33U << 20));
  }
  CHECK(cgroup.remove());
}

void a_modest_one_lives_and_its_peak_is_told() {
  CgroupSpec spec = spec_for({kMemory});
  spec.watch_oom = true;
  Cgroup cgroup = Cgroup::make(spec);
  CHECK(wait_for(start_in(cgroup, [] { touch_memory(20U << 20); })) == 0);
  CHECK(!cgroup.oom_killed() && !cgroup.oom_killed_within(1000));
  if (const auto peak = cgroup.usage().memory_peak) {
    std::printf("  peak after touching 20 MiB: %.2f MiB\n", double(*peak) / (1 << 20));
    CHECK(*peak >= (20U << 20) && *peak < (22U << 20));
  }
}

void busy_time_is_counted_also_of_grandchildren() {
  Cgroup cgroup = Cgroup::make(spec_for({kClock}));
  const auto burn = [] {
    timespec now{};
    do {
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    } while (now.tv_nsec < 200'000'000 && now.tv_sec == 0);
  };
  const pid_t pid = start_in(cgroup, [&] {
    if (::fork() == 0) {
      burn();
      ::_exit(0);
    }
    ::wait(nullptr);
    burn();
  });
  CHECK(wait_for(pid) == 0);
  const auto usage = cgroup.usage();
  CHECK(usage.cpu && usage.user && usage.system);
  CHECK(*usage.cpu > 0.39 && *usage.cpu < 0.8);
  CHECK(std::abs(*usage.user + *usage.system - *usage.cpu) < 0.002);
  CHECK(cgroup.cpu_seconds().value_or(0) >= *usage.cpu);
  CHECK(!usage.memory_peak || exists(cgroup.binds()[0].first + "/memory.peak"));
}

void a_fork_bomb_is_held_and_killed(const std::vector<Need>& needs) {
  Cgroup cgroup = Cgroup::make(spec_for(needs));
  const pid_t bomb = start_in(cgroup, [] {
    for (;;) ::fork();
  });
  ::usleep(200'000);
  const size_t living = cgroup.processes().size();
  std::printf("  %zu processes under pids.max=32\n", living);
  CHECK(living > 16 && living <= 32);
  CHECK(cgroup.kill());
  CHECK(cgroup.processes().empty());
  wait_for(bomb);
  CHECK(cgroup.remove());
}

// The tests have no PID namespace: a runner that nobody stops would outlive a failed test.
void frozen_ones_stand_still(const std::vector<Need>& needs, bool late) {
  CgroupSpec spec = spec_for(needs);
  if (late) {
    const Tree tree = tree_for("freezer");
    spec.late_freezer = tree.parent;
    spec.late_freezer_v2 = tree.v2;
  }
  auto* count = static_cast<volatile uint64_t*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  Cgroup cgroup = Cgroup::make(spec);
  const pid_t runner = start_in(cgroup, [count] {
    if (::fork() == 0) sleep_forever();
    for (;;) *count = *count + 1;
  });
  const auto moves = [count] {
    const uint64_t before = *count;
    ::usleep(50'000);
    return *count != before;
  };
  CHECK(moves());
  cgroup.freeze(true);
  CHECK(!moves());
  cgroup.freeze(false);
  CHECK(moves());
  cgroup.freeze(true);
  CHECK(cgroup.kill());  // also what is frozen
  const int status = wait_for(runner);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  CHECK(cgroup.remove());
  CHECK(!anything_left(spec));
}

void without_a_freezer_freezing_says_so() {
  const CgroupSpec spec = spec_for({kPids});
  if ((spec.directories[0].roles & kRoleV2) != 0) return;  // v2 can always
  Cgroup cgroup = Cgroup::make(spec);
  bool thrown = false;
  try {
    cgroup.freeze(true);
  } catch (const LaunchFailure& failure) {
    thrown = failure.error == EOPNOTSUPP && !failure.hint.empty();
  }
  CHECK(thrown);
}

void limits_change_while_it_runs() {
  CgroupSpec spec = spec_for({kMemory});
  Cgroup cgroup = Cgroup::make(spec);
  const bool v2 = (spec.directories[0].roles & kRoleV2) != 0;
  const std::string path = cgroup.binds()[0].first;
  const char* file = v2 ? "memory.max" : "memory.limit_in_bytes";
  const char* both = v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes";
  for (const uint64_t size : {64U << 20, 16U << 20, 128U << 20}) {
    std::vector<CgroupChange> changes{{kRoleMemory, file, std::to_string(size)}};
    if (exists(path + "/" + both)) {
      changes.push_back({kRoleMemory, both, v2 ? "0" : std::to_string(size)});
    }
    cgroup.update(changes);
    CHECK(number(read_file(path + "/" + file)) == size);
  }
  const auto refused = [&](CgroupChange change) {
    try {
      cgroup.update({change});
    } catch (const LaunchFailure& failure) {
      return failure.error;
    }
    return 0;
  };
  CHECK(refused({kRoleMemory, file, "rubbish"}) == EINVAL);
  CHECK(refused({kRoleIo, "io.weight", "1"}) == EOPNOTSUPP);
}

void a_forked_child_leaves_the_parents_cgroup_alone() {
  Cgroup cgroup = Cgroup::make(spec_for({kPids}));
  const pid_t inside = start_in(cgroup, sleep_forever);
  while (cgroup.processes().empty()) ::usleep(100);
  const pid_t forked = ::fork();
  if (forked == 0) {
    {
      const Cgroup taken = std::move(cgroup);
    }
    ::_exit(0);
  }
  CHECK(wait_for(forked) == 0);
  CHECK(cgroup.processes() == std::vector<pid_t>{inside});
  CHECK(exists(cgroup.binds()[0].first));
  CHECK(cgroup.kill());
  wait_for(inside);
}

void a_dropped_cgroup_takes_its_processes_with_it() {
  const CgroupSpec spec = spec_for({kPids});
  pid_t inside = 0;
  {
    const Cgroup cgroup = Cgroup::make(spec);
    inside = start_in(cgroup, sleep_forever);
    while (cgroup.processes().empty()) ::usleep(100);
  }
  const int status = wait_for(inside);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  CHECK(!anything_left(spec));
}

void nested_cgroups_are_removed_too() {
  const CgroupSpec spec = spec_for({kPids});
  {
    const Cgroup cgroup = Cgroup::make(spec);
    const std::string path = cgroup.binds()[0].first;
    CHECK(::mkdir((path + "/a").c_str(), 0755) == 0 && ::mkdir((path + "/a/b").c_str(), 0755) == 0);
  }
  CHECK(!anything_left(spec));
}

void removal_follows_the_reaping_at_once() {
  const CgroupSpec spec = spec_for({kMemory, kPids, kClock});
  int late = 0;
  for (int round = 0; round < 200; ++round) {
    Cgroup cgroup = Cgroup::make(spec);
    wait_for(start_in(cgroup, [] {}));
    if (!cgroup.remove(0)) {
      ++late;
      CHECK(cgroup.remove());
    }
  }
  std::printf("  %d of 200 removals had to wait for the dead\n", late);
  CHECK(!anything_left(spec));
}

void show(const char* name, const std::vector<Need>& needs, const std::function<void()>& fact) {
  if (!can_make(needs)) {
    std::printf("%s: not shown, no cgroup tree to write to\n", name);
    return;
  }
  std::printf("%s\n", name);
  fact();
}
#define SHOW(needs, fact, ...) show(#fact, needs, [&] { fact(__VA_ARGS__); })

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::vector<Need> memory{kMemory}, pids{kPids}, both{kMemory, kPids}, clock{kClock};
  const std::vector<Need> freezer{kPids, kFreezer}, all{kMemory, kPids, kClock};
  SHOW({}, numbers_are_read_and_garbage_is_nothing);
  SHOW(both, a_cgroup_is_made_and_removed);
  SHOW(both, a_refused_limit_undoes_all);
  SHOW(pids, a_refused_directory_ends_the_launch_only_when_it_must_be);
  SHOW(pids, threads_get_cgroups_of_their_own);
  SHOW(memory, a_hog_dies_and_it_is_told);
  SHOW(memory, a_modest_one_lives_and_its_peak_is_told);
  SHOW(clock, busy_time_is_counted_also_of_grandchildren);
  SHOW(pids, a_fork_bomb_is_held_and_killed, pids);
  SHOW(freezer, a_fork_bomb_is_held_and_killed, freezer);
  SHOW(freezer, frozen_ones_stand_still, freezer, false);
  SHOW(pids, frozen_ones_stand_still, pids, true);
  SHOW(pids, without_a_freezer_freezing_says_so);
  SHOW(memory, limits_change_while_it_runs);
  SHOW(pids, a_forked_child_leaves_the_parents_cgroup_alone);
  SHOW(pids, a_dropped_cgroup_takes_its_processes_with_it);
  SHOW(pids, nested_cgroups_are_removed_too);
  SHOW(all, removal_follows_the_reaping_at_once);
  std::printf(failures == 0 ? "all facts hold\n" : "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
