// run and start: from a plan to a result, or to a handle.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bind/containers/handle.h"
#include "bind/values/request.h"
#include "parent/network/relay.h"
#include "parent/pool/warm_pool.h"

namespace pyminicon::bind {

// What Python says of a start, in C++: to be launched by whatever thread. Our ends of the pipes are
// the handle's; the container's are closed with this.
struct StartRequest {
  StartRequest(Handle& handle, const parent::PlanSpec& spec, const Request& request);
  parent::LaunchOptions options;
  ChildEnds ends;
  std::shared_ptr<parent::Gate> gate;

  // Launches it, and whoever serves its network takes over.
  void launch_into(Handle& handle, const parent::PlanSpec& spec);
};

// The moments at which a run's set-up is given up: the caller's, and its limit's.
struct SetupTimes {
  explicit SetupTimes(const Request& request);
  int64_t begun, by_caller, by_wall;

  int64_t first() const { return std::min(by_caller, by_wall); }
  Outcome passed() const;
};

// Starts the container of a run, whose end will be waited for.
void launch_run(Handle& handle, const parent::PlanSpec& spec, const Request& request,
                int64_t deadline);

// Throws if exec had failed; called when the container has ended. Empty where launching told it.
using CheckRun = std::function<void(parent::Launched&, const parent::Outcome&)>;

// From the started container to its outcome. `warm_pool`: its template's, or null.
Outcome finish_run(Released<Handle> handle, const Request& request, int64_t begun,
                   parent::WarmPool* warm_pool, const CheckRun& check);

// What Python calls; pyminicon/_core.pyi has their signatures.
Outcome run(const parent::PlanSpec& spec, const Request& request);
Released<Handle> start(const parent::PlanSpec& spec, const Request& request);

}  // namespace pyminicon::bind
