#include "bind/run.h"

#include <signal.h>

#include <algorithm>

#include "bind/from_python.h"
#include "bind/to_python.h"
#include "parent/launch/job.h"
#include "parent/plan/placeholder_id.h"
#include "parent/process/failure.h"

namespace pyminicon::bind {

using parent::Launched;
using parent::PlanSpec;

namespace {

void launch_into(Handle& handle, const PlanSpec& spec, StartRequest& request) {
  request.options.interrupted = check_signals;
  const NoGil nogil;
  handle.container() = parent::launch(spec, request.options);
}

// For the message about it.
std::string program_of(const py::tuple& exec_spec) {
  for (const py::handle word : exec_spec[1]) return bytes_of(word);
  return {};
}

}  // namespace

StartRequest::StartRequest(Handle& handle, const PlanSpec& spec, const py::tuple& exec_spec,
                           const py::tuple& stdio, std::vector<int> pass) {
  options.id = handle.id = parent::new_id();
  options.exec = make_exec(exec_spec);
  parent::name_in(options.exec, spec, options.id);
  options.pass = std::move(pass);
  // A template's row, by which a run may be launched directly, has 7 fields and no gate.
  if (exec_spec.size() == 5) {
    const auto gate = py::reinterpret_borrow<py::tuple>(exec_spec[4]);
    options.gate = gate[0].cast<int>();
    options.gate_port = gate[1].cast<uint32_t>();
  }
  open_stdio(stdio, options, ends, handle.streams);
}

py::tuple timed_out_in_setup(bool by_caller) {
  return py::make_tuple(-SIGKILL, py::none(), py::none(), by_caller ? nullptr : "wall_time",
                        by_caller, py::none(), 0.0, py::none(), py::none());
}

void launch_run(Handle& handle, const PlanSpec& spec, const py::tuple& exec_spec,
                const py::tuple& stdio, const std::vector<int>& pass, bool trace, int64_t deadline,
                int cancel) {
  StartRequest start(handle, spec, exec_spec, stdio, pass);
  start.options.trace = trace;
  start.options.deadline = deadline;
  start.options.undo_later = true;
  start.options.thread_waits = true;
  start.options.cancel = cancel;
  launch_into(handle, spec, start);
}

py::tuple finish_run(Released<Handle> handle, const RunRequest& request, const py::tuple& exec_spec,
                     int64_t begun, parent::WarmPool* warm_pool, const CheckRun& check) {
  Launched& container = handle->container();
  parent::RunLimits limits;
  limits.timeout = deadline_in(request.timeout, begun);
  limits.wall = deadline_in(request.wall_time, container.started);
  limits.cpu = request.cpu_time;
  limits.output = request.max_output;
  limits.cancel = request.cancel;
  limits.trim = request.trim;
  if (warm_pool != nullptr) limits.lasting = [warm_pool] { warm_pool->refill(true); };
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
    const NoGil nogil;
    supervise(container, handle->streams, feed, limits, check_signals, outcome);
    if (check) check(container, outcome);
    if (container.cgroup) usage = container.cgroup->usage();
  }
  if (outcome.limit == parent::Limit::kMemory && container.memory_limit < parent::kSmallestMemory) {
    throw parent::LaunchFailure(ENOMEM, Stage::kExec, program_of(exec_spec),
                                "killed for memory: below 1M nothing may start");
  }
  // Of what still hangs nothing is taken: it could change what is looked at.
  const bool over = !container.given_up && !outcome.timed_out;
  const py::object files =
      over ? collected(*handle, request.collect, request.collect_max, limits.timeout) : py::none();
  py::tuple result = py::make_tuple(
      or_none(container.returncode), piped_out ? bytes_from(outcome.output) : py::none(),
      piped_err ? bytes_from(outcome.error) : py::none(), limit_name(outcome.limit),
      outcome.timed_out, usage_of(container, usage), startup_of(container), trace_of(container),
      files, py::make_tuple(outcome.output.dropped(), outcome.error.dropped()));
  if (warm_pool != nullptr) {
    const NoGil nogil;
    warm_pool->discard(std::move(container.root), std::move(container.mount_namespace));
  }
  return result;
}

py::tuple run(const PlanSpec& spec, const py::tuple& exec_spec, const py::tuple& stdio,
              const std::vector<int>& pass, bool trace, const py::object& input, Seconds timeout,
              Seconds wall_time, double cpu_time, uint64_t max_output, const py::object& collect,
              uint64_t collect_max, int cancel, bool trim) {
  const int64_t begun = parent::now_ns();
  const int64_t by_caller = deadline_in(timeout, begun), by_wall = deadline_in(wall_time, begun);
  Released<Handle> handle(new Handle);
  try {
    launch_run(*handle, spec, exec_spec, stdio, pass, trace, std::min(by_caller, by_wall), cancel);
  } catch (const parent::SetupTimeout&) {
    return timed_out_in_setup(by_caller <= by_wall);
  }
  const RunRequest request{input,   timeout,     wall_time, cpu_time, max_output,
                           collect, collect_max, cancel,    trim};
  return finish_run(std::move(handle), request, exec_spec, begun, nullptr, {});
}

Released<Handle> start(const PlanSpec& spec, const py::tuple& exec_spec, const py::tuple& stdio,
                       const std::vector<int>& pass, bool terminal, bool trace, Seconds wall_time,
                       double cpu_time, uint64_t max_output, int cancel, bool undo_later) {
  Released<Handle> handle(new Handle);
  const int64_t begun = parent::now_ns();
  {
    StartRequest request(*handle, spec, exec_spec, stdio, pass);
    request.options.terminal = terminal;
    request.options.trace = trace;
    request.options.deadline = deadline_in(wall_time, begun);
    request.options.undo_later = undo_later;
    request.options.cancel = cancel;
    launch_into(*handle, spec, request);
  }
  hold_limits(*handle, wall_time, cpu_time, max_output);
  return handle;
}

}  // namespace pyminicon::bind
