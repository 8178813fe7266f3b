// What Python asks of one run or start besides its plan, and what it is told of a run's end.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bind/values/from_python.h"

namespace pyminicon::bind {

namespace py = pybind11;

// pyminicon/_core.pyi says what each field means. Nobody reads it without the interpreter's lock.
struct Request {
  py::tuple exec_spec;  // candidates, argv, env, cwd
  std::array<int, 3> stdio;
  std::vector<int> pass_fds;
  bool trace;
  Seconds wall_time;
  double cpu_time;
  MostOutput max_output;

  bool terminal = false;
  bool undo_later = false;
  bool trim = false;
  int cancel_fd = -1;
  Seconds timeout = {}, patience = {};
  py::object input = py::none();
  py::object collect = py::none();
  uint64_t collect_max = 0;
  // uid, gid, groups
  std::optional<std::tuple<uint32_t, uint32_t, std::vector<uint32_t>>> who = std::nullopt;
  py::object clock = py::none();     // what counts one command's processor time
  py::object gate = py::none();      // what its network is served by
  uint32_t gate_port = 0;            // of the listener that it needs there, or 0
  py::sequence files = py::tuple();  // (target, bytes, mode)
  std::pair<uint32_t, uint32_t> files_owner{0, 0};
};

struct Outcome {
  std::optional<int> returncode;
  py::object output = py::none(), error = py::none();
  std::optional<std::string> limit;
  bool timed_out = false;
  py::object usage = py::none();
  double startup = 0;
  py::object trace = py::none();
  py::object files = py::none();
  std::pair<uint64_t, uint64_t> dropped{0, 0};
};

void bind_requests(py::module_& module);

}  // namespace pyminicon::bind
