#include "bind/containers/supervisor.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "bind/values/from_python.h"
#include "bind/values/gil.h"
#include "bind/values/to_python.h"
#include "parent/failure.h"
#include "parent/supervise/supervise.h"

namespace pyminicon::bind {
namespace {

namespace py = pybind11;

// A Handle, or what is known as one of a container that another process keeps.
class Known final : public parent::Supervised {
 public:
  explicit Known(py::object handle)
      : handle_(std::move(handle)), fd_(handle_.attr("pidfd").cast<int>()) {}
  int fd() const override { return fd_; }
  bool over() override { return ask("over"); }
  void kill() override { ask("kill"); }
  bool hopeless(int64_t killed_for) override {
    const Gil gil;
    return handle_.attr("hopeless")(static_cast<double>(killed_for) * 1e-9).cast<bool>();
  }
  void give_up() override { ask("give_up"); }

 private:
  bool ask(const char* what) {
    const Gil gil;
    return handle_.attr(what)().ptr() == Py_True;
  }

  py::object handle_;
  int fd_;
};

// A supervisor with all that has to outlive it.
struct Held {
  parent::Streams streams;
  bool piped[2];
  py::bytes input;
  parent::Fd cancel;
  Known known;
  parent::RunLimits limits;
  parent::Outcome outcome = {};
  parent::Supervisor supervisor{known, streams, static_cast<std::string_view>(input), limits,
                                outcome};
};

std::unique_ptr<Held> make(py::object handle, const std::array<int, 3>& fds, py::bytes input,
                           MostOutput max_output, bool trim, Seconds timeout, Seconds wall_time,
                           int cancel_fd, bool relayed, bool borrowed) {
  parent::Streams streams{parent::Fd(fds[0]), parent::Fd(fds[1]), parent::Fd(fds[2])};
  // A copy: an epoll takes a descriptor once, and several may wait for the same.
  parent::Fd cancel(cancel_fd < 0 ? -1 : fcntl(cancel_fd, F_DUPFD_CLOEXEC, 3));
  if (cancel_fd >= 0 && !cancel) {
    throw parent::LaunchFailure(errno, Stage::kPrepare, "descriptor of a wait");
  }
  const int64_t now = parent::now_ns();
  parent::RunLimits limits;
  limits.wall = deadline_in(wall_time, now);
  limits.timeout = deadline_in(timeout, now);
  limits.output = max_output.value_or(UINT64_MAX);
  limits.trim = trim;
  limits.relayed = relayed;
  limits.borrowed = borrowed;
  limits.cancel = cancel.get();
  return std::unique_ptr<Held>(new Held{std::move(streams),
                                        {fds[1] >= 0, fds[2] >= 0},
                                        std::move(input),
                                        std::move(cancel),
                                        Known(std::move(handle)),
                                        std::move(limits)});
}

bool go_on(Held& held, Seconds most) {
  const int64_t until = deadline_in(most, parent::now_ns());
  const NoGil nogil;
  return held.supervisor.go_on(check_signals, until);
}

std::optional<double> left(const Held& held) {
  const int64_t next = held.supervisor.next();
  if (next == parent::kNever) return std::nullopt;
  return static_cast<double>(std::max<int64_t>(next - parent::now_ns(), 0)) * 1e-9;
}

py::object output(const Held& held, int which) {
  return held.piped[which - 1] ? bytes_from(held.outcome.exchange.of(which)) : py::none();
}

}  // namespace

// pyminicon/_core.pyi says what each does.
void bind_supervisor(py::module_& module) {
  const py::none none;
  py::class_<Held>(module, "Supervisor")
      .def(py::init(&make), py::arg("handle"), py::arg("streams") = std::array<int, 3>{-1, -1, -1},
           py::kw_only(), py::arg("input") = py::bytes(), py::arg("max_output") = none,
           py::arg("trim") = false, py::arg("timeout") = none, py::arg("wall_time") = none,
           py::arg("cancel_fd") = -1, py::arg("relayed") = false, py::arg("borrowed") = false)
      .def("step", [](Held& h) { h.supervisor.step(0); })
      .def("go_on", &go_on)
      .def("wait_by", [](Held& h, int epoll) { h.supervisor.wait_by(epoll); })
      .def("let_go", [](Held& h) { h.supervisor.let_go(); })
      .def("kill", [](Held& h) { h.supervisor.kill(); })
      .def("output", &output)
      .def_property_readonly("left", &left)
      .def_property_readonly("gone", [](const Held& h) { return h.supervisor.gone(); })
      .def_property_readonly("given_up", [](const Held& h) { return h.supervisor.given_up(); })
      .def_property_readonly("timed_out", [](const Held& h) { return h.outcome.timed_out; })
      .def_property_readonly("limit", [](const Held& h) { return limit_name(h.outcome.limit); })
      .def_property_readonly("dropped", [](const Held& h) {
        const parent::Exchange& all = h.outcome.exchange;
        return std::make_pair(all.of(1).dropped(), all.of(2).dropped());
      });
}

}  // namespace pyminicon::bind
