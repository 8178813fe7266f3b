// What goes back to Python: figures, bytes, errors.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>

#include "parent/failure.h"
#include "parent/launch/launch.h"
#include "parent/supervise/supervise.h"

namespace pyminicon::bind {

namespace py = pybind11;

void raise_launch_error(const parent::LaunchFailure& failure);

py::object bytes_from(const parent::Output& output);

template <typename T>
py::object or_none(const std::optional<T>& value) {
  return value ? py::cast(*value) : py::object(py::none());
}

// (wall, user, system, memory_peak, pids_peak, io_read, io_written)
py::tuple usage_of(const parent::Launched& container, const parent::CgroupUsage& usage);

// ((stage, nanoseconds), ...), or None where it wasn't asked for.
py::object trace_of(const parent::Launched& container);

// Seconds from the call to execve.
double startup_of(const parent::Launched& container);

}  // namespace pyminicon::bind
