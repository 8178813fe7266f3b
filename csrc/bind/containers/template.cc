#include "bind/containers/template.h"

#include <algorithm>

#include "bind/containers/run.h"
#include "bind/values/from_python.h"
#include "bind/values/to_python.h"
#include "parent/inside/collect.h"
#include "parent/launch/memory_mode.h"
#include "parent/plan/placeholder_id.h"

namespace pyminicon::bind {

using parent::Launched;
using parent::PlanSpec;

TemplateCore::TemplateCore(std::shared_ptr<PlanSpec> the_spec, size_t size)
    : spec(std::move(the_spec)), warm_pool(spec, size) {
  parent::LaunchOptions options;
  options.interrupted = check_signals;
  const NoGil nogil;
  warm_pool.warm(options);
}

namespace {

std::vector<parent::FileToPut> files_of(const Request& request) {
  const auto [uid, gid] = request.files_owner;
  std::vector<parent::FileToPut> files;
  for (py::handle item : request.files) {
    const auto file = py::reinterpret_borrow<py::tuple>(item);
    files.push_back({bytes_of(file[0]), bytes_of(file[1]), file[2].cast<uint32_t>(), uid, gid});
  }
  return files;
}

// Takes a container from the warm pool and sends it on its way; the stream ends are in `handle`.
parent::Parked dispatch(TemplateCore& core, parent::ExecSpec& exec, const Request& request,
                        int64_t deadline, bool confirm, Handle& handle) {
  std::vector<parent::FileToPut> files = files_of(request);
  parent::LaunchOptions options;
  options.pass = request.pass_fds;
  options.deadline = deadline;
  options.cancel = request.cancel_fd;
  options.interrupted = check_signals;
  ChildEnds ends;
  open_stdio(request.stdio, options, ends, handle.streams);
  const int64_t begun = parent::now_ns();
  const NoGil nogil;
  parent::Parked parked = core.warm_pool.take(options);
  if (!files.empty()) {
    const parent::Patience patience = parent::patience_of(options);
    parent::put_files(parked.container.root.get(), std::move(files), patience);
  }
  parent::name_in(exec, *core.spec, parked.id);
  handle.id = parked.id;
  parent::unpark(parked, exec, options, confirm);
  parked.container.begun = begun;
  return parked;
}

// False: there is a container in warm pool. Files are put into one that waits.
bool launched_directly(TemplateCore& core, Handle& handle, const Request& request,
                       int64_t deadline) {
  if (!request.files.empty()) return false;
  const auto direct = core.warm_pool.launch_directly();
  if (direct) launch_run(handle, *core.spec, request, deadline);
  return direct.has_value();
}

void settle_times(Launched& container, const parent::Parked& parked, bool trace) {
  const uint64_t exec = parked.report->stamps[static_cast<uint32_t>(Stage::kExec)];
  if (exec != 0) container.started = static_cast<int64_t>(exec);
  if (!trace) return;
  for (const Stage stage : {Stage::kStdio, Stage::kCwd, Stage::kFds, Stage::kExec}) {
    const uint64_t at = parked.report->stamps[static_cast<uint32_t>(stage)];
    container.trace.emplace_back(stage_name(stage), static_cast<int64_t>(at) - container.begun);
  }
}

}  // namespace

Outcome template_run(TemplateCore& core, const Request& request) {
  const SetupTimes times(request);
  const parent::RefillAfter refill(core.warm_pool);
  Released<Handle> handle(new Handle);
  parent::ExecSpec exec;
  parent::Parked parked;
  try {
    if (launched_directly(core, *handle, request, times.first())) {
      return finish_run(std::move(handle), request, times.begun, &core.warm_pool, {});
    }
    exec = make_exec(request.exec_spec);
    parked = dispatch(core, exec, request, times.first(), false, *handle);
  } catch (const parent::SetupTimeout&) {
    return times.passed();
  }
  handle->container() = std::move(parked.container);
  const bool trace = request.trace;
  return finish_run(std::move(handle), request, times.begun, &core.warm_pool,
                    [&parked, &exec, trace](Launched& container, const parent::Outcome& end) {
                      const bool stopped = end.timed_out || end.limit != parent::Limit::kNone;
                      parent::check_run(parked, exec, stopped);
                      settle_times(container, parked, trace);
                    });
}

Released<Handle> template_start(TemplateCore& core, const Request& request) {
  const parent::RefillAfter refill(core.warm_pool);
  Released<Handle> handle(new Handle);
  parent::ExecSpec exec = make_exec(request.exec_spec);
  const int64_t begun = parent::now_ns();
  const int64_t deadline =
      std::min(deadline_in(request.wall_time, begun), deadline_in(request.patience, begun));
  parent::Parked parked = dispatch(core, exec, request, deadline, true, *handle);
  handle->container() = std::move(parked.container);
  Launched& container = handle->container();
  if (exec.argv.empty()) {
    container.living = container.living->without_program(parent::ground_of(*core.spec, true));
  }
  settle_times(container, parked, request.trace);
  hold_limits(*handle, request.wall_time, request.cpu_time, request.max_output);
  await_commands(*handle);
  return handle;
}

}  // namespace pyminicon::bind
