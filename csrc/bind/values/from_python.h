// What Python hands over, in C++ types.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parent/plan/spec.h"

namespace pyminicon::bind {

namespace py = pybind11;

using Seconds = std::optional<double>;       // None: as long as it takes
using MostOutput = std::optional<uint64_t>;  // bytes; None: no limit

std::string bytes_of(py::handle value);
std::optional<std::string> optional_bytes(py::handle value);  // nothing for None
std::vector<std::string> list_of_bytes(py::handle value);

// A plan from a dict with PlanSpec's names: what isn't in it keeps its default.
std::shared_ptr<parent::PlanSpec> make_plan(const py::dict& dict);

// What pyminicon.cgroups.plan has planned.
parent::CgroupSpec cgroup_of(py::handle value);

// The same plan with other limits.
std::shared_ptr<parent::PlanSpec> limited(const parent::PlanSpec& plan, py::handle cgroup,
                                          uint64_t memory);

// What one run executes, from (candidates, argv, env, cwd).
parent::ExecSpec make_exec(const py::tuple& exec_spec);

// A moment on the monotonic clock, kNever for None.
int64_t deadline_in(Seconds seconds, int64_t from);

// Has pending signals handled, and throws what a handler raises (Ctrl-C); takes the GIL for it.
void check_signals();

}  // namespace pyminicon::bind
