#include "bind/containers/run.h"

#include <signal.h>

#include "bind/values/from_python.h"
#include "bind/values/to_python.h"
#include "parent/failure.h"
#include "parent/launch/job.h"
#include "parent/plan/placeholder_id.h"

namespace pyminicon::bind {

using parent::Launched;
using parent::PlanSpec;

namespace {

void launch_into(Handle& handle, const PlanSpec& spec, StartRequest& request) {
  request.options.interrupted = check_signals;
  const NoGil nogil;
  request.launch_into(handle, spec);
}

// For the message about it.
std::string program_of(const py::tuple& exec_spec) {
  for (const py::handle word : exec_spec[1]) return bytes_of(word);
  return {};
}

}  // namespace

StartRequest::StartRequest(Handle& handle, const PlanSpec& spec, const Request& request) {
  options.id = handle.id = parent::new_id();
  options.exec = make_exec(request.exec_spec);
  parent::name_in(options.exec, spec, options.id);
  options.pass = request.pass_fds;
  options.terminal = request.terminal;
  options.trace = request.trace;
  options.cancel = request.cancel_fd;
  if (!request.gate.is_none()) {
    gate = request.gate.cast<std::shared_ptr<parent::Gate>>();
    options.served = true;
    options.served_since = gate->since();
    if (request.gate_port != 0) options.gate = gate->line();
    options.gate_port = request.gate_port;
  }
  open_stdio(request.stdio, options, ends, handle.streams);
}

void StartRequest::launch_into(Handle& handle, const PlanSpec& spec) {
  handle.container() = parent::launch(spec, options);
  if (gate) gate->born(handle.container().pidfd.get());
}

SetupTimes::SetupTimes(const Request& request)
    : begun(parent::now_ns()),
      by_caller(deadline_in(request.timeout, begun)),
      by_wall(deadline_in(request.wall_time, begun)) {}

Outcome SetupTimes::passed() const {
  Outcome outcome;
  outcome.returncode = -SIGKILL;
  outcome.timed_out = by_caller <= by_wall;
  if (!outcome.timed_out) outcome.limit = "wall_time";
  return outcome;
}

void launch_run(Handle& handle, const PlanSpec& spec, const Request& request, int64_t deadline) {
  StartRequest start(handle, spec, request);
  start.options.deadline = deadline;
  start.options.undo_later = true;
  start.options.thread_waits = true;
  launch_into(handle, spec, start);
}

Outcome finish_run(Released<Handle> handle, const Request& request, int64_t begun,
                   parent::WarmPool* warm_pool, const CheckRun& check) {
  Launched& container = handle->container();
  parent::RunLimits limits;
  limits.timeout = deadline_in(request.timeout, begun);
  limits.wall = deadline_in(request.wall_time, container.started);
  limits.cpu = request.cpu_time;
  limits.output = request.max_output.value_or(UINT64_MAX);
  limits.cancel = request.cancel_fd;
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
  if (outcome.limit == parent::Limit::kMemory) {
    insist_on_room(*handle, program_of(request.exec_spec));
  }
  // Of what still hangs nothing is taken: it could change what is looked at.
  const bool over = !container.given_up && !outcome.timed_out;
  const py::object files =
      over ? collected(*handle, request.collect, request.collect_max, limits.timeout) : py::none();
  Outcome result;
  result.returncode = container.returncode;
  if (piped_out) result.output = bytes_from(outcome.exchange.of(parent::Exchange::kOutput));
  if (piped_err) result.error = bytes_from(outcome.exchange.of(parent::Exchange::kError));
  if (outcome.limit != parent::Limit::kNone) result.limit = limit_name(outcome.limit);
  result.timed_out = outcome.timed_out;
  result.usage = usage_of(container, usage);
  result.startup = startup_of(container);
  result.trace = trace_of(container);
  result.files = files;
  result.dropped = {outcome.exchange.of(parent::Exchange::kOutput).dropped(),
                    outcome.exchange.of(parent::Exchange::kError).dropped()};
  if (warm_pool != nullptr) {
    const NoGil nogil;
    warm_pool->discard(std::move(container.root), std::move(container.mount_namespace));
  }
  return result;
}

Outcome run(const PlanSpec& spec, const Request& request) {
  const SetupTimes times(request);
  Released<Handle> handle(new Handle);
  try {
    launch_run(*handle, spec, request, times.first());
  } catch (const parent::SetupTimeout&) {
    return times.passed();
  }
  return finish_run(std::move(handle), request, times.begun, nullptr, {});
}

Released<Handle> start(const PlanSpec& spec, const Request& request) {
  Released<Handle> handle(new Handle);
  const int64_t begun = parent::now_ns();
  {
    StartRequest start(*handle, spec, request);
    start.options.deadline = deadline_in(request.wall_time, begun);
    start.options.undo_later = request.undo_later;
    launch_into(*handle, spec, start);
  }
  hold_limits(*handle, request.wall_time, request.cpu_time, request.max_output);
  await_commands(*handle);
  return handle;
}

}  // namespace pyminicon::bind
