// The cgroups of one container: made before the launch, read while it runs, removed after it.
//
// Which directories there are, and what is written where, was decided in pyminicon/cgroups; here
// v1 and v2 differ only in how a process gets in, in what the files are called, and in how all are
// killed. A Cgroup belongs to the process that made it: in a forked child it does nothing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parent/cgroup/file.h"
#include "parent/files/fd.h"

namespace pyminicon::parent {

// What a directory is for. pyminicon/cgroups has the same numbers.
enum CgroupRole : uint32_t {
  kRoleMemory = 1 << 0,
  kRoleCpu = 1 << 1,
  kRoleCpuset = 1 << 2,
  kRolePids = 1 << 3,
  kRoleIo = 1 << 4,
  kRoleCpuTime = 1 << 5,
  kRoleFreezer = 1 << 6,
  kRoleV2 = 1 << 7,
  kRoleDevices = 1 << 8,
  // Only seen inside, with no process in it: to join v1's cpu puts a process behind all that wait
  // for a processor, milliseconds on a busy machine.
  kRoleShown = 1 << 9,
  // One for all containers of this process (v1), made once: nothing is counted or limited by it,
  // and it is nobody's to kill, to freeze or to remove. The guards do that when the process ends.
  kRoleShared = 1 << 10,
  // Of what there is one for each command in a container to live in.
  kRolesTold = kRoleMemory | kRolePids | kRoleIo | kRoleCpuTime,
};

struct CgroupSpec {
  struct Directory {
    std::string parent;  // the directory below which it is made
    std::string bind;    // its name at /sys/fs/cgroup in the container; "" is that directory itself
    uint32_t roles = 0;
    bool required = false;  // false: the launch goes on where the kernel refuses it
  };
  struct Write {
    uint32_t directory = 0;  // an index of directories
    std::string file;
    std::string value;
    bool optional = false;  // the file may be missing
  };

  std::string prefix;  // "pyminicon-<boot>-<pid namespace>-<pid>-<start time>"
  std::vector<Directory> directories;
  std::vector<Write> writes;
  std::string remedy;        // what helps when a directory is refused
  std::string late_freezer;  // where freeze() makes a cgroup when none of directories can freeze
  bool late_freezer_v2 = false;
  bool watch_oom = false;                // open oom_fd()
  bool by_launcher = false;              // only the launcher may have children in there
  bool shared_memory_is_unsafe = false;  // see oom_group_above in pyminicon/cgroups/v2.py
};

// A change of a running container's limits, for the directory that has the role.
struct CgroupChange {
  uint32_t role = 0;
  std::string file;
  std::string value;
};

// What the kernel knows; a figure that it can't give is nullopt, never 0.
struct CgroupUsage {
  std::optional<double> user, system, cpu;  // seconds; cpu is user and system together
  std::optional<uint64_t> memory_peak, pids_peak;
  std::optional<uint64_t> io_read, io_written;  // bytes that reached a block device
};

// What is in use at the moment: nothing that is worth two files more at the end of a run.
struct CgroupPresent {
  std::optional<uint64_t> memory, pids;  // bytes, processes and threads
};

// Removes a directory in which everybody has died. False where it is busy after `patience_us`.
bool remove_directory(const std::string& path, int patience_us);

// Since 6.14, and since 6.1.129 and the like, the kernel kills a child that is born into a cgroup
// (CLONE_INTO_CGROUP) if its parent's was ever killed as a whole (cgroup.kill) and the new one not,
// or the other way round: it compares how often (kill_seq). Where that has been seen, the children
// of this process are born in its own cgroup and move.
struct KilledAtBirth {};
bool births_are_outside();
void have_births_outside();

// Whether a command's cgroup can be another's: not where it isn't empty, or would tell of that one
// what was its predecessor's. It is to be removed then. Not yet: too much is charged to it still,
// most of which the kernel frees after a grace period.
enum class Renewal { kDone, kNotYet, kNever };

class Cgroup {
 public:
  Cgroup() = default;
  ~Cgroup();  // kills what is in there and removes it
  Cgroup(Cgroup&& other) noexcept;
  Cgroup& operator=(Cgroup&& other) noexcept;
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;

  // Makes the directories, writes the limits, opens what joining needs. Throws LaunchFailure (stage
  // cgroup, the subject is the path) with everything undone.
  static Cgroup make(const CgroupSpec& spec);

  // One for a command in a container to live in, below that container's own, in the trees that tell
  // what is used and whose process was killed for memory (commands.cc).
  static Cgroup below(Cgroup& container, uint32_t number, bool watch_oom);
  // What counts the processor time of one command, where its own doesn't or it has none: below the
  // container's, which goes on to count it, or where that doesn't count where `spec` says
  // (plan_clock of pyminicon/cgroups). It is no other command's afterwards.
  void add_clock_below(const Cgroup& container, uint32_t number);
  void add_clock(const CgroupSpec& spec);
  bool counts_cpu_time() const { return with(kRoleCpuTime) != nullptr; }
  bool has_clock() const { return has_clock_; }
  const std::string& clock_apart() const { return clock_apart_; }  // that of add_clock(), else ""
  // Of a command that has ended, for the next one of `container` (renew.cc).
  Renewal renew(const Cgroup& container, bool watch_oom);
  // Whether who joins a command's waits for a grace period: v2 moves whole processes alone.
  bool is_slow_to_join() const { return with(kRoleV2) != nullptr; }
  // Whether a process or two that wait are hardly missed in its limit of them.
  bool has_many_processes() const;
  // Whether it is what another one for `container` would be.
  bool fits(const Cgroup& container, bool watch_oom) const;
  // Of a container to live in: makes room for that, once. What init would starve in it leaves.
  void divide();
  // Of a command on v2: the kernel kills all that is in there, whatever it forks. False elsewhere,
  // and before Linux 5.14; on v1 most of them are killed, and none forks, where there is a limit of
  // processes.
  bool kill_at_once() const;
  void signal_all() const;  // SIGKILL to all in it; what is forked meanwhile escapes
  // Removes it, but for processes that are left in there: false then, and it is left alone.
  bool remove_if_empty();

  explicit operator bool() const { return !places_.empty(); }
  // False where each that could be done without was refused: nothing is counted then.
  bool has_directory() const { return any() != nullptr; }

  // v2: for CLONE_INTO_CGROUP, else -1. The child is born in there, without the wait for an RCU
  // grace period that a write to cgroup.procs costs (8 ms after idleness).
  int clone_into_fd() const { return v2_fd_.get(); }
  // v1: `tasks` files. The single-threaded child writes "0" to each, before it touches memory. v2's
  // cgroup.procs is among them where the whole group may be killed (shared_memory_is_unsafe): until
  // it has memory of its own a child in there would take the caller with it. Who is in one of them
  // is in all that come before it.
  const std::vector<int>& join_fds() const { return joins_; }
  // After the child is in: gives back the descriptors that only joining needs.
  void close_join_fds();

  // A descriptor that becomes readable (v1: POLLIN) or exceptional (v2: POLLPRI) when memory ran
  // out; -1 unless a memory limit is set. Level-triggered until clear_oom_event().
  int oom_fd() const { return oom_fd_.get(); }
  void hear_no_more();  // of kills for memory: all of it has ended
  short oom_poll_events() const;
  void clear_oom_event();
  // Whether the kernel killed a process of this container for memory.
  bool oom_killed() const;
  // The same after an event. v1 tells of it once, before it kills, so there this waits up to
  // `patience_us`; v2 tells again after the kill, so false means: go on polling.
  bool oom_killed_within(int patience_us) const;

  // v2: from now on the kernel kills all of it or nothing (memory.oom.group). Only when the child
  // has done its exec: before, it shares its memory with the caller, and the OOM killer kills
  // everyone who does.
  void after_exec();

  CgroupUsage usage() const;
  CgroupPresent present() const;
  std::optional<double> cpu_seconds() const;  // CPU time of the whole container so far

  // The processes that are in there now, as this process's PID namespace numbers them.
  std::vector<pid_t> processes() const;
  // SIGKILL to all, and to what they fork meanwhile. False if some are left after `patience_us`
  // (a process in uninterruptible sleep, say).
  bool kill(int patience_us = 2'000'000);
  // Stops and continues all of it. Throws LaunchFailure where no cgroup can.
  void freeze(bool frozen);
  // Where freeze() freezes on v1, whether it has been made yet or not; "" elsewhere.
  std::string v1_freezer() const;
  // v1: what has been killed while it was frozen dies only when it goes on. Nothing elsewhere.
  void let_go() const;
  // Throws LaunchFailure when the kernel refuses one, or no directory has the role.
  void update(const std::vector<CgroupChange>& changes);
  // False if a directory is still busy after `patience_us`.
  bool remove(int patience_us = 2'000'000);

  // What the container sees: (directory, name below /sys/fs/cgroup), to be bound read-only.
  std::vector<std::pair<std::string, std::string>> binds() const;

 private:
  struct Place {
    std::string path;
    std::string bind;
    uint32_t roles = 0;
  };

  bool make_directories(const CgroupSpec& spec, const std::string& name);
  static bool is_own(const Place& place);
  void write_limits(const CgroupSpec& spec);
  void hold_devices() const;
  void open_join_fds(bool born_outside);
  void watch_oom();
  void join(const std::string& file);
  bool open_to_join(const std::string& file);
  void divide_v2(const Place& place);
  std::string commands_of(const Place& place) const;
  std::vector<std::string> files_beside() const;
  static bool is_for_each_command(const Place& place);
  void begin_of_command();
  static const char* join_file(const Place& place);
  void join_last();
  bool join_beside(const Cgroup& container);
  bool is_taken() const;
  bool open_joins();
  bool holds_little() const;
  bool tells_of_nobody() const;
  bool begin_anew();
  void keep_open();
  std::optional<std::string> text_of(const Place& place, const char* file) const;
  bool peak_can_begin_anew() const;
  bool begin_peak_anew_v2(const Place& place) const;
  bool set_to_zero(const Place& place, const char* file) const;
  CgroupUsage counted() const;
  void count_time(CgroupUsage& usage) const;
  void count_io(CgroupUsage& usage) const;
  int open_file(const Place& place, const char* file) const;
  void repeat_limits(const std::string& path) const;
  void update_below(const Place& place, const CgroupChange& change);
  std::vector<pid_t> to_be_frozen(const Place& members) const;
  const Place* with(uint32_t role) const;
  const Place* any() const;
  bool is_empty() const;
  void make_late_freezer();
  bool is_mine() const;

  std::vector<Place> places_;  // parallel to the spec's; path is empty where it was refused
  std::vector<int> joins_;     // in the order in which they are joined
  std::vector<Fd> join_fds_;   // those of them that are open for that alone
  std::string name_, late_freezer_;
  bool late_freezer_v2_ = false;
  Fd v2_fd_, oom_fd_;
  pid_t owner_ = 0;
  bool of_command_ = false;  // whoever is in there may stay
  bool has_clock_ = false;
  std::string clock_apart_;
  bool divided_ = false;
  std::vector<std::pair<std::string, std::string>> repeated_;  // v2: file, value
  size_t beside_ = 0;   // of a command: how many directories its container had when it was made
  CgroupUsage before_;  // what was counted in it before its command
  std::unique_ptr<OpenFiles> open_;
};

}  // namespace pyminicon::parent
