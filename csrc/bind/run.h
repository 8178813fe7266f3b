// run and start: from a plan to a result, or to a handle.
#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bind/handle.h"
#include "parent/stock.h"

namespace pyminicon::bind {

// What a run is asked besides its plan; the order is that of _core.run's arguments.
struct RunRequest {
  py::object input, timeout, wall_time;
  double cpu_time;
  uint64_t max_output;
  py::object collect;
  uint64_t collect_max;
};

py::tuple timed_out_in_setup(bool by_caller);

// Throws if exec had failed; called when the container has ended.
using CheckRun = std::function<void(parent::Launched&, const parent::Outcome&)>;

// From the started container to the result tuple. `stock`: where it came from, or null.
py::tuple finish_run(std::unique_ptr<Handle> handle, const RunRequest& request,
                     const std::string& program, int64_t begun, parent::Stock* stock,
                     const CheckRun& check);

// What Python calls; pyminicon/_core.pyi has their signatures. `told`: (candidates, argv, env,
// cwd).
py::tuple run(const parent::PlanSpec& spec, const py::tuple& told, const py::tuple& stdio,
              const std::vector<int>& pass, bool trace, const py::object& input,
              const py::object& timeout, const py::object& wall_time, double cpu_time,
              uint64_t max_output, const py::object& collect, uint64_t collect_max);
std::unique_ptr<Handle> start(const parent::PlanSpec& spec, const py::tuple& told,
                              const py::tuple& stdio, const std::vector<int>& pass, bool terminal,
                              bool trace, const py::object& wall_time, double cpu_time,
                              uint64_t max_output, int cancel);

}  // namespace pyminicon::bind
