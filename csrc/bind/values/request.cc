#include "bind/values/request.h"

namespace pyminicon::bind {
namespace {

Request make_request(py::tuple exec_spec, std::array<int, 3> stdio, std::vector<int> pass_fds,
                     bool trace, Seconds wall_time, double cpu_time, MostOutput max_output) {
  return {.exec_spec = std::move(exec_spec),
          .stdio = stdio,
          .pass_fds = std::move(pass_fds),
          .trace = trace,
          .wall_time = wall_time,
          .cpu_time = cpu_time,
          .max_output = max_output};
}

Outcome make_outcome(std::optional<int> returncode, py::object output, py::object error,
                     std::optional<std::string> limit, bool timed_out, py::object usage,
                     double startup, std::pair<uint64_t, uint64_t> dropped) {
  return {.returncode = returncode,
          .output = std::move(output),
          .error = std::move(error),
          .limit = std::move(limit),
          .timed_out = timed_out,
          .usage = std::move(usage),
          .startup = startup,
          .dropped = dropped};
}

// The same of another command.
Request again(const Request& request, py::tuple exec_spec) {
  Request made = request;
  made.exec_spec = std::move(exec_spec);
  return made;
}

py::tuple told(const Outcome& outcome) {
  return py::make_tuple(outcome.returncode, outcome.output, outcome.error, outcome.limit,
                        outcome.timed_out, outcome.usage, outcome.startup, outcome.dropped,
                        outcome.trace, outcome.files);
}

}  // namespace

void bind_requests(py::module_& module) {
  py::class_<Request>(module, "Request")
      .def(py::init(&make_request), py::kw_only(), py::arg("exec_spec"), py::arg("stdio"),
           py::arg("pass_fds"), py::arg("trace"), py::arg("wall_time"), py::arg("cpu_time"),
           py::arg("max_output"))
      .def("again", &again, py::arg("exec_spec"))
      .def_readonly("exec_spec", &Request::exec_spec)
      .def_readonly("stdio", &Request::stdio)
      .def_readonly("pass_fds", &Request::pass_fds)
      .def_readonly("trace", &Request::trace)
      .def_readonly("cpu_time", &Request::cpu_time)
      .def_readwrite("wall_time", &Request::wall_time)
      .def_readwrite("max_output", &Request::max_output)
      .def_readwrite("terminal", &Request::terminal)
      .def_readwrite("undo_later", &Request::undo_later)
      .def_readwrite("trim", &Request::trim)
      .def_readwrite("cancel_fd", &Request::cancel_fd)
      .def_readwrite("timeout", &Request::timeout)
      .def_readwrite("patience", &Request::patience)
      .def_readwrite("input", &Request::input)
      .def_readwrite("collect", &Request::collect)
      .def_readwrite("collect_max", &Request::collect_max)
      .def_readwrite("who", &Request::who)
      .def_readwrite("clock", &Request::clock)
      .def_readwrite("gate", &Request::gate)
      .def_readwrite("gate_port", &Request::gate_port)
      .def_readwrite("files", &Request::files)
      .def_readwrite("files_owner", &Request::files_owner);
  py::class_<Outcome>(module, "Outcome")
      .def(py::init(&make_outcome), py::kw_only(), py::arg("returncode"), py::arg("stdout"),
           py::arg("stderr"), py::arg("limit"), py::arg("timed_out"), py::arg("usage"),
           py::arg("startup"), py::arg("dropped") = std::pair<uint64_t, uint64_t>(0, 0))
      .def("told", &told)
      .def_readonly("returncode", &Outcome::returncode)
      .def_readonly("stdout", &Outcome::output)
      .def_readonly("stderr", &Outcome::error)
      .def_readonly("timed_out", &Outcome::timed_out)
      .def_readonly("usage", &Outcome::usage)
      .def_readonly("startup", &Outcome::startup)
      .def_readonly("dropped", &Outcome::dropped)
      .def_readwrite("limit", &Outcome::limit)
      .def_readwrite("trace", &Outcome::trace)
      .def_readwrite("files", &Outcome::files);
}

}  // namespace pyminicon::bind
