#include "bind/run.h"

#include <signal.h>

#include <algorithm>

#include "bind/from_python.h"
#include "bind/to_python.h"
#include "parent/failure.h"
#include "parent/own_id.h"
#include "parent/vehicle.h"

namespace pyminicon::bind {

using parent::Launched;
using parent::PlanSpec;

namespace {

// Below 1 MiB no program can start; the kernel's killer there is a failed launch.
constexpr uint64_t kSmallestMemory = 1 << 20;

void launch_into(Handle& handle, const PlanSpec& spec, const py::tuple& told,
                 const py::tuple& stdio, const std::vector<int>& pass, bool terminal, bool trace,
                 int64_t deadline, bool undo_later, int cancel = -1) {
  parent::LaunchOptions options;
  options.id = handle.id = parent::new_id();
  options.exec = make_exec(told);
  parent::name_in(options.exec, spec, options.id);
  options.undo_later = undo_later;
  options.cancel = cancel;
  options.pass = pass;
  options.trace = trace;
  options.terminal = terminal;
  options.deadline = deadline;
  options.interrupted = check_signals;
  ChildEnds ends;
  open_stdio(stdio, options, ends, handle.streams);
  const py::gil_scoped_release nogil;
  handle.container() = parent::launch(spec, options);
}

// For the message about it.
std::string program_of(const py::tuple& told) {
  for (const py::handle word : told[1]) return bytes_of(word);
  return {};
}

}  // namespace

py::tuple timed_out_in_setup(bool by_caller) {
  return py::make_tuple(-SIGKILL, py::none(), py::none(), by_caller ? nullptr : "wall_time",
                        by_caller, py::none(), 0.0, py::none(), py::none());
}

py::tuple finish_run(std::unique_ptr<Handle> handle, const RunRequest& request,
                     const std::string& program, int64_t begun, parent::Stock* stock,
                     const CheckRun& check) {
  Launched& container = handle->container();
  parent::RunLimits limits;
  limits.timeout = deadline_in(request.timeout, begun);
  limits.wall = deadline_in(request.wall_time, container.started);
  limits.cpu = request.cpu_time;
  limits.output = request.max_output;
  if (stock != nullptr) limits.lasting = [stock] { stock->refill(); };
  const bool piped_out = static_cast<bool>(handle->streams.output);
  const bool piped_err = static_cast<bool>(handle->streams.error);
  const std::string_view feed =
      request.input.is_none() ? std::string_view()
                              : std::string_view(py::reinterpret_borrow<py::bytes>(request.input));
  parent::Outcome outcome;
  parent::CgroupUsage usage;
  // A signal that came during the launch interrupts no poll any more.
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  {
    const py::gil_scoped_release nogil;
    supervise(container, handle->streams, feed, limits, check_signals, outcome);
    check(container, outcome);
    if (container.cgroup) usage = container.cgroup->usage();
  }
  if (outcome.limit == parent::Limit::kMemory && container.memory_limit < kSmallestMemory) {
    throw parent::LaunchFailure(ENOMEM, Stage::kExec, program,
                                "killed for memory: below 1M nothing may start");
  }
  const py::object files = collected(*handle, request.collect, request.collect_max);
  py::tuple result = py::make_tuple(
      or_none(container.returncode), piped_out ? bytes_from(outcome.output) : py::none(),
      piped_err ? bytes_from(outcome.error) : py::none(), limit_name(outcome.limit),
      outcome.timed_out, usage_of(container, usage), startup_of(container), trace_of(container),
      files);
  const py::gil_scoped_release nogil;
  if (stock != nullptr) {
    stock->discard(std::move(container.root), std::move(container.mount_namespace));
  }
  handle.reset();
  return result;
}

py::tuple run(const PlanSpec& spec, const py::tuple& told, const py::tuple& stdio,
              const std::vector<int>& pass, bool trace, const py::object& input,
              const py::object& timeout, const py::object& wall_time, double cpu_time,
              uint64_t max_output, const py::object& collect, uint64_t collect_max) {
  const int64_t begun = parent::now_ns();
  const int64_t by_caller = deadline_in(timeout, begun), by_wall = deadline_in(wall_time, begun);
  auto handle = std::make_unique<Handle>();
  try {
    launch_into(*handle, spec, told, stdio, pass, false, trace, std::min(by_caller, by_wall),
                parent::can_undo_later(spec));
  } catch (const parent::SetupTimeout&) {
    return timed_out_in_setup(by_caller <= by_wall);
  }
  const RunRequest request{input, timeout, wall_time, cpu_time, max_output, collect, collect_max};
  return finish_run(std::move(handle), request, program_of(told), begun, nullptr,
                    [](Launched&, const parent::Outcome&) {});
}

std::unique_ptr<Handle> start(const PlanSpec& spec, const py::tuple& told, const py::tuple& stdio,
                              const std::vector<int>& pass, bool terminal, bool trace,
                              const py::object& wall_time, double cpu_time, uint64_t max_output,
                              int cancel) {
  auto handle = std::make_unique<Handle>();
  const int64_t begun = parent::now_ns();
  launch_into(*handle, spec, told, stdio, pass, terminal, trace, deadline_in(wall_time, begun),
              false, cancel);
  hold_limits(*handle, wall_time, cpu_time, max_output);
  return handle;
}

}  // namespace pyminicon::bind
