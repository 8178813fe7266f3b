// A template's warm pool: single-use containers that wait, all but started, for their command.
//
// Everything that a container of the template has ahead of its run is done by a thread of the
// warm pool, off the critical path: namespaces, mounts, cgroups, capabilities, the filter. A run
// takes one, tells it what to exec, and never gives it back. The warm pool is bounded and sleeps
// when it is full.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "parent/launch/launch.h"
#include "parent/plan/memory.h"

namespace pyminicon::parent {

// A container that waits for its run.
struct Parked {
  Launched container;
  std::unique_ptr<PlanMemory> memory;
  Report* report = nullptr;
  Fd socket, failure;
  std::string id;
};

class WarmPool;

// A run is launching a container itself, until the end of a scope; the warm pool's thread stands
// back.
class DirectLaunch {
 public:
  explicit DirectLaunch(WarmPool& warm_pool) : warm_pool_(warm_pool) {}
  ~DirectLaunch();
  DirectLaunch(const DirectLaunch&) = delete;
  DirectLaunch& operator=(const DirectLaunch&) = delete;

 private:
  WarmPool& warm_pool_;
};

class WarmPool {
 public:
  WarmPool(std::shared_ptr<const PlanSpec> spec, size_t size);
  ~WarmPool();  // ends what is in warm pool; runs that are going on aren't touched

  // The next container; made on the spot where the warm pool is empty. Throws what launch() throws.
  // Whoever takes calls refill() when the run has ended or is known to last.
  Parked take(const LaunchOptions& options);
  // A run may also launch a container of its own where the warm pool is empty: a waiting one would
  // cost more, to be woken at once. None: there is one to take.
  std::optional<DirectLaunch> launch_directly();
  // Lets the thread make what is missing. Not at take(): the two would be in each other's way in
  // the kernel's namespace locks, and the run would take twice as long. `lasting`: the run goes on.
  void refill(bool lasting = false);
  // Makes the first one, so that what can't be made is known at once, and lets the thread go on.
  void warm(const LaunchOptions& options);
  // The last reference to a mount namespace takes its mounts apart, 0.1 ms that nobody should wait
  // for: the warm pool's thread closes these, at the next refill().
  void discard(Fd root, Fd mount_namespace);

  bool owned() const;
  size_t ready() const;

  void close();

  struct Shared;  // what the thread holds on to

 private:
  friend class DirectLaunch;
  std::shared_ptr<Shared> shared_;
};

// refill() at the end of a scope, however it ends.
class RefillAfter {
 public:
  explicit RefillAfter(WarmPool& warm_pool) : warm_pool_(warm_pool) {}
  ~RefillAfter() { warm_pool_.refill(); }
  RefillAfter(const RefillAfter&) = delete;
  RefillAfter& operator=(const RefillAfter&) = delete;

 private:
  WarmPool& warm_pool_;
};

// Sends a parked container on its way. With `confirm` it returns when the program has been exec'd,
// and throws LaunchFailure if it couldn't be; else failed_run() tells when the container has ended.
void unpark(Parked& parked, const ExecSpec& exec, const LaunchOptions& options, bool confirm);

// Once its failure pipe is closed or it has ended: throws LaunchFailure if the parked container's
// run never got to exec. `stopped`: the caller or a limit has ended it; then that is its end,
// wherever it was.
void check_run(const Parked& parked, const ExecSpec& exec, bool stopped);

}  // namespace pyminicon::parent
