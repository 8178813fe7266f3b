#include "bind/values/to_python.h"

#include <new>

namespace pyminicon::bind {

using parent::Launched;

namespace {

// Its hints are in a module that is loaded only now, which where no descriptor is free can't be.
py::object maker_of_errors() {
  try {
    return py::module_::import("pyminicon._explain").attr("launch_error");
  } catch (py::error_already_set&) {
    return py::module_::import("pyminicon.errors").attr("LaunchError");
  }
}

py::object launch_error(const parent::LaunchFailure& failure) {
  return maker_of_errors()(
      failure.error, stage_name(failure.stage),
      py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefaultAndSize(
          failure.subject.data(), static_cast<Py_ssize_t>(failure.subject.size()))),
      failure.hint.empty() ? py::object(py::none()) : py::object(py::str(failure.hint)));
}

}  // namespace

// Throws nothing: pybind11 would tell of the failure by its first word only.
void raise_launch_error(const parent::LaunchFailure& failure) {
  try {
    const py::object error = launch_error(failure);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  } catch (py::error_already_set& other) {
    other.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
}

py::object bytes_from(const parent::Output& output) {
  auto* object = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(output.size()));
  if (object == nullptr) throw py::error_already_set();
  output.copy_to(PyBytes_AS_STRING(object));
  return py::reinterpret_steal<py::object>(object);
}

py::tuple usage_of(const Launched& container, const parent::CgroupUsage& usage) {
  const int64_t until = container.reaped ? container.ended : parent::now_ns();
  const double wall = static_cast<double>(until - container.started) * 1e-9;
  // What pid 1 has waited for is little of a container: only where nothing counts all of it.
  const auto& user = container.counted ? usage.user : container.user;
  const auto& system = container.counted ? usage.system : container.system;
  return py::make_tuple(wall, or_none(user), or_none(system), or_none(usage.memory_peak),
                        or_none(usage.pids_peak), or_none(usage.io_read),
                        or_none(usage.io_written));
}

py::object trace_of(const Launched& container) {
  if (container.trace.empty()) return py::none();
  py::list rows;
  for (const auto& [stage, at] : container.trace) rows.append(py::make_tuple(stage, at));
  return rows;
}

double startup_of(const Launched& container) {
  return static_cast<double>(container.started - container.begun) * 1e-9;
}

}  // namespace pyminicon::bind
