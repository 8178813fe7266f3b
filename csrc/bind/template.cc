#include "bind/template.h"

#include <algorithm>
#include <optional>

#include "bind/from_python.h"
#include "bind/run.h"
#include "bind/to_python.h"
#include "parent/launch/memory_mode.h"
#include "parent/plan/placeholder_id.h"
#include "parent/process/collect.h"

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

// What a run of a template is: (candidates, argv, env, cwd, files, uid, gid).
struct TemplateRun {
  explicit TemplateRun(const py::tuple& row) : exec(make_exec(row)) {
    const auto uid = row[5].cast<uint32_t>(), gid = row[6].cast<uint32_t>();
    for (py::handle item : row[4]) {
      const auto file = py::reinterpret_borrow<py::tuple>(item);
      files.push_back({bytes_of(file[0]), bytes_of(file[1]), file[2].cast<uint32_t>(), uid, gid});
    }
  }
  parent::ExecSpec exec;
  std::vector<parent::FileToPut> files;
};

// Takes a container from the warm pool and sends it on its way; the stream ends are in `handle`.
parent::Parked dispatch(TemplateCore& core, TemplateRun& run, const py::tuple& stdio,
                        const std::vector<int>& pass, int64_t deadline, int cancel, bool confirm,
                        Handle& handle) {
  parent::LaunchOptions options;
  options.pass = pass;
  options.deadline = deadline;
  options.cancel = cancel;
  options.interrupted = check_signals;
  ChildEnds ends;
  open_stdio(stdio, options, ends, handle.streams);
  const int64_t begun = parent::now_ns();
  const NoGil nogil;
  parent::Parked parked = core.warm_pool.take(options);
  if (!run.files.empty()) {
    const parent::Patience patience = parent::patience_of(options);
    parent::put_files(parked.container.root.get(), std::move(run.files), patience);
  }
  parent::name_in(run.exec, *core.spec, parked.id);
  handle.id = parked.id;
  parent::unpark(parked, run.exec, options, confirm);
  parked.container.begun = begun;
  return parked;
}

// False: there is a container in warm pool. Files are put into one that waits.
bool launched_directly(TemplateCore& core, Handle& handle, const py::tuple& what,
                       const py::tuple& stdio, const std::vector<int>& pass, bool trace,
                       int64_t deadline, int cancel) {
  if (py::len(what[4]) > 0) return false;
  const auto direct = core.warm_pool.launch_directly();
  if (direct) launch_run(handle, *core.spec, what, stdio, pass, trace, deadline, cancel);
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

py::tuple template_run(TemplateCore& core, const py::tuple& what, const py::tuple& stdio,
                       const std::vector<int>& pass, bool trace, const py::object& input,
                       Seconds timeout, Seconds wall_time, double cpu_time, uint64_t max_output,
                       const py::object& collect, uint64_t collect_max, int cancel, bool trim) {
  const int64_t begun = parent::now_ns();
  const int64_t by_caller = deadline_in(timeout, begun), by_wall = deadline_in(wall_time, begun);
  const parent::RefillAfter refill(core.warm_pool);
  Released<Handle> handle(new Handle);
  std::optional<TemplateRun> exec_spec;
  parent::Parked parked;
  const int64_t deadline = std::min(by_caller, by_wall);
  const RunRequest request{input,   timeout,     wall_time, cpu_time, max_output,
                           collect, collect_max, cancel,    trim};
  try {
    if (launched_directly(core, *handle, what, stdio, pass, trace, deadline, cancel)) {
      return finish_run(std::move(handle), request, what, begun, &core.warm_pool, {});
    }
    parked = dispatch(core, exec_spec.emplace(what), stdio, pass, deadline, cancel, false, *handle);
  } catch (const parent::SetupTimeout&) {
    return timed_out_in_setup(by_caller <= by_wall);
  }
  handle->container() = std::move(parked.container);
  return finish_run(std::move(handle), request, what, begun, &core.warm_pool,
                    [&parked, &exec_spec, trace](Launched& container, const parent::Outcome& end) {
                      const bool stopped = end.timed_out || end.limit != parent::Limit::kNone;
                      parent::check_run(parked, exec_spec->exec, stopped);
                      settle_times(container, parked, trace);
                    });
}

Released<Handle> template_start(TemplateCore& core, const py::tuple& what, const py::tuple& stdio,
                                const std::vector<int>& pass, Seconds wall_time, double cpu_time,
                                uint64_t max_output, bool trace, int cancel, Seconds patience) {
  const parent::RefillAfter refill(core.warm_pool);
  Released<Handle> handle(new Handle);
  TemplateRun exec_spec(what);
  const int64_t begun = parent::now_ns();
  const int64_t deadline = std::min(deadline_in(wall_time, begun), deadline_in(patience, begun));
  parent::Parked parked = dispatch(core, exec_spec, stdio, pass, deadline, cancel, true, *handle);
  handle->container() = std::move(parked.container);
  Launched& container = handle->container();
  if (exec_spec.exec.argv.empty()) {
    container.living = container.living->without_program(parent::ground_of(*core.spec, true));
  }
  settle_times(container, parked, trace);
  hold_limits(*handle, wall_time, cpu_time, max_output);
  return handle;
}

}  // namespace pyminicon::bind
