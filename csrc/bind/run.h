// run and start: from a plan to a result, or to a handle.
#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bind/handle.h"
#include "parent/pool/warm_pool.h"

namespace pyminicon::bind {

// What Python says of a start, in C++: to be launched by whatever thread. `exec_spec`: (candidates,
// argv, env, cwd) and, where its network is served, (socket, port) of gate.cc. Our ends of the
// pipes are the handle's; the container's are closed with this.
struct StartRequest {
  StartRequest(Handle& handle, const parent::PlanSpec& spec, const py::tuple& exec_spec,
               const py::tuple& stdio, std::vector<int> pass);
  parent::LaunchOptions options;
  ChildEnds ends;
};

// What a run is asked besides its plan; the order is that of _core.run's arguments.
struct RunRequest {
  py::object input;
  Seconds timeout, wall_time;
  double cpu_time;
  uint64_t max_output;
  py::object collect;
  uint64_t collect_max;
  int cancel;  // a descriptor that is readable when nobody wants it any more, or -1
  bool trim;   // max_output of each stream is kept, and it goes on
};

py::tuple timed_out_in_setup(bool by_caller);

// Starts the container of a run, whose end will be waited for.
void launch_run(Handle& handle, const parent::PlanSpec& spec, const py::tuple& exec_spec,
                const py::tuple& stdio, const std::vector<int>& pass, bool trace, int64_t deadline,
                int cancel);

// Throws if exec had failed; called when the container has ended. Empty where launching told it.
using CheckRun = std::function<void(parent::Launched&, const parent::Outcome&)>;

// From the started container to the result tuple. `exec_spec`: what it runs. `warm_pool`: its
// template's, or null.
py::tuple finish_run(Released<Handle> handle, const RunRequest& request, const py::tuple& exec_spec,
                     int64_t begun, parent::WarmPool* warm_pool, const CheckRun& check);

// What Python calls; pyminicon/_core.pyi has their signatures.
py::tuple run(const parent::PlanSpec& spec, const py::tuple& exec_spec, const py::tuple& stdio,
              const std::vector<int>& pass, bool trace, const py::object& input, Seconds timeout,
              Seconds wall_time, double cpu_time, uint64_t max_output, const py::object& collect,
              uint64_t collect_max, int cancel, bool trim);
Released<Handle> start(const parent::PlanSpec& spec, const py::tuple& exec_spec,
                       const py::tuple& stdio, const std::vector<int>& pass, bool terminal,
                       bool trace, Seconds wall_time, double cpu_time, uint64_t max_output,
                       int cancel, bool undo_later);

}  // namespace pyminicon::bind
