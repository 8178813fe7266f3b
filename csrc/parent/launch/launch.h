// One launch, from the plan to a running program.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/plan.h"
#include "parent/cgroup/cgroup.h"
#include "parent/files/fd.h"
#include "parent/launch/pasta.h"
#include "parent/living/living.h"
#include "parent/plan/spec.h"
#include "parent/process/patience.h"
#include "parent/reaper/reaper.h"

namespace pyminicon::parent {

struct LaunchOptions {
  ExecSpec exec;
  std::string id;  // the container's own
  int stdio[3] = {0, 1, 2};
  bool terminal = false;
  std::vector<int> pass;
  bool trace = false;
  int64_t begun = 0;          // when it was called for, if not just now
  int64_t deadline = kNever;  // for the set-up itself
  bool undo_later = false;    // somebody waits for the end: not for the undoing of the mounts
  int cancel = -1;            // readable: the caller gives the set-up up
  Interrupted interrupted;
  bool served = false;        // the caller serves its network,
  int64_t served_since = 0;   // and what that takes was begun then
  int gate = -1;              // where the child sends a listener at this port of its loopback,
  uint32_t gate_port = 0;     // or 0
  bool thread_waits = false;  // the launching thread, until the container has ended
};

inline Patience patience_of(const LaunchOptions& options) {
  return {options.deadline, options.cancel, options.interrupted};
}

// A started container: what has to be waited for, read and removed. Move-only; the destructor
// kills.
class Launched {
 public:
  Launched() = default;
  explicit Launched(const PlanSpec& spec);  // the beginning of one: leased, not yet cloned
  // A command in a container, which all below is about then, and of the container nothing.
  Launched(const std::shared_ptr<Living>& container, Fd reply, bool piped, uint32_t number);
  Launched(Launched&&) = default;
  Launched& operator=(Launched&&) = default;
  ~Launched();

  bool owned() const;        // made by this process, not by the one that forked it
  void kill();               // SIGKILL to pid 1, and with it everything in the container
  void wait_by_reply();      // of a command that a runner has: its beginning is no matter any more
  void signal(int number);   // to pid 1, or to a command's first process
  void freeze(bool frozen);  // stops or continues all of it; there must be a cgroup
  bool reap(bool block);     // true once the status is known; waits for no longer than hopeless()
  bool is_out_of_memory() const;            // a command in which the OOM killer came
  bool hopeless(int64_t killed_for) const;  // killed so long ago (ns), and will not die soon
  // Its mounts are taken apart by the reaper, and not in its own end, for which one waits.
  void undo_later();
  void keep_usage();  // reads last_usage before its cgroup goes
  // Cgroups, scratch directory; after reap. False where a layer can't be removed now.
  bool remove_leftovers();

  int pid = 0;  // of a command as its container counts
  Fd pidfd;     // or what is readable like one, of a command
  std::optional<Cgroup> cgroup;
  bool kill_by_cgroup = false;
  Fd root, mount_namespace;  // for collect
  int64_t begun = 0, started = 0, ended = 0;
  uint64_t memory_limit = 0;
  std::shared_ptr<Living> living;  // where it takes commands
  std::unique_ptr<CommandEnd> command;
  bool unborn = false;  // a command that hasn't been heard of
  bool quiet = false;   // one that is heard of only when it has ended
  bool doomed = false;  // it has been told to end
  bool alone = false;   // a command that never has a child: its own end is all of it
  std::vector<std::pair<std::string, int64_t>> trace;  // stage, ns since `begun`

  bool reaped = false;
  bool given_up = false;          // killed, and hangs in the kernel
  std::optional<int> returncode;  // unknown when somebody else has taken the status
  CgroupUsage last_usage;
  bool counted = false;                // it has a cgroup, or had one, for what it uses
  std::optional<double> user, system;  // seconds, of pid 1 and what it waited for

 private:
  friend class LaunchJob;
  bool reap_command(bool block);
  WatchLease watch_;
  WayOut way_out_;
  Fd init_status_;
  Fd held_mounts_;
  std::string scratch_dir_;
  Fd scratch_lock_;
  uint64_t generation_ = 0;
};

// Reaps what was given up when it could not be killed, and has died since.
void reap_abandoned();

// Throws LaunchFailure or SetupTimeout; then nothing is left.
Launched launch(const PlanSpec& spec, const LaunchOptions& options);

}  // namespace pyminicon::parent
