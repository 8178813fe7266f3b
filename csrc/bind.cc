// The only file that sees Python. Prose and signatures are in pyminicon/_core.pyi.
#include <fcntl.h>
#include <poll.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cstring>
#include <mutex>

#include "base/kernel.h"
#include "parent/collect.h"
#include "parent/failure.h"
#include "parent/launch.h"
#include "parent/stock.h"
#include "parent/supervise.h"
#include "parent/watchdog.h"
#include "seccomp_default.h"  // made by the build: kDefaultSeccomp

namespace py = pybind11;

namespace pyminicon {
namespace {

using parent::Launched;
using parent::OpSpec;
using parent::PlanSpec;

// ---- from Python
// ----------------------------------------------------------------------------------

std::string bytes_of(py::handle value) {
  if (PyBytes_Check(value.ptr())) {
    return {PyBytes_AS_STRING(value.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(value.ptr()))};
  }
  // Names on Linux are bytes: surrogates carry what isn't UTF-8 (PEP 383).
  const auto encoded = py::reinterpret_steal<py::bytes>(PyUnicode_EncodeFSDefault(value.ptr()));
  if (!encoded) throw py::error_already_set();
  return encoded;
}

std::optional<std::string> optional_bytes(py::handle value) {
  if (value.is_none()) return std::nullopt;
  return bytes_of(value);
}

std::vector<std::string> list_of_bytes(py::handle value) {
  std::vector<std::string> all;
  for (py::handle item : value) all.push_back(bytes_of(item));
  return all;
}

// (kind, flags, source, target, data, mode, uid, gid, held)
std::vector<OpSpec> ops_of(py::handle value) {
  std::vector<OpSpec> all;
  for (py::handle item : value) {
    const auto row = py::reinterpret_borrow<py::tuple>(item);
    OpSpec op;
    op.kind = static_cast<OpKind>(row[0].cast<uint32_t>());
    op.flags = row[1].cast<uint32_t>();
    op.source = optional_bytes(row[2]);
    op.target = optional_bytes(row[3]);
    op.data = optional_bytes(row[4]);
    op.mode = row[5].cast<uint32_t>();
    op.uid = row[6].cast<uint32_t>();
    op.gid = row[7].cast<uint32_t>();
    op.held = row[8].cast<int>();
    all.push_back(std::move(op));
  }
  return all;
}

parent::CgroupSpec cgroup_of(py::handle value) {
  const auto row = py::reinterpret_borrow<py::tuple>(value);
  parent::CgroupSpec spec;
  spec.prefix = bytes_of(row[0]);
  for (py::handle item : row[1]) {
    const auto entry = py::reinterpret_borrow<py::tuple>(item);
    spec.directories.push_back(
        {bytes_of(entry[0]), bytes_of(entry[1]), entry[2].cast<uint32_t>(), entry[3].cast<bool>()});
  }
  for (py::handle item : row[2]) {
    const auto entry = py::reinterpret_borrow<py::tuple>(item);
    spec.writes.push_back(
        {entry[0].cast<uint32_t>(), bytes_of(entry[1]), bytes_of(entry[2]), entry[3].cast<bool>()});
  }
  spec.remedy = bytes_of(row[3]);
  spec.watch_oom = row[4].cast<bool>();
  spec.shared_memory_is_unsafe = row[5].cast<bool>();
  spec.late_freezer = bytes_of(row[6]);
  spec.late_freezer_v2 = row[7].cast<bool>();
  return spec;
}

// A dict with the fields' names: what isn't in it keeps PlanSpec's default.
class Fields {
 public:
  explicit Fields(const py::dict& dict) : dict_(dict) {}

  py::handle get(const char* name) const { return PyDict_GetItemString(dict_.ptr(), name); }
  template <typename T>
  void value(const char* name, T& into) const {
    if (const py::handle found = get(name)) into = found.cast<T>();
  }
  void text(const char* name, std::optional<std::string>& into) const {
    if (const py::handle found = get(name)) into = optional_bytes(found);
  }
  void list(const char* name, std::vector<std::string>& into) const {
    if (const py::handle found = get(name)) into = list_of_bytes(found);
  }

 private:
  const py::dict& dict_;
};

void read_ids(const Fields& fields, PlanSpec& spec) {
  fields.text("own_uid_map", spec.own_uid_map);
  fields.text("own_gid_map", spec.own_gid_map);
  fields.text("uid_map", spec.uid_map);
  fields.text("gid_map", spec.gid_map);
  fields.list("uid_mapper", spec.uid_mapper);
  fields.list("gid_mapper", spec.gid_mapper);
  fields.value("become_root", spec.become_root);
  fields.value("change_user", spec.change_user);
  fields.value("set_groups", spec.set_groups);
  fields.value("uid", spec.uid);
  fields.value("gid", spec.gid);
  if (const py::handle groups = fields.get("groups")) {
    for (py::handle group : groups) spec.groups.push_back(group.cast<uint32_t>());
  }
}

void read_root(const Fields& fields, PlanSpec& spec) {
  uint32_t kind = static_cast<uint32_t>(spec.root);
  fields.value("root", kind);
  spec.root = static_cast<RootKind>(kind);
  fields.value("read_only", spec.read_only);
  fields.value("allow_setuid", spec.allow_setuid);
  fields.list("layers", spec.layers);
  fields.text("scratch_tmpfs", spec.scratch_tmpfs);
  fields.text("disk_parent", spec.disk_parent);
  fields.text("overlay_options", spec.overlay_options);
  if (const py::handle ops = fields.get("skeleton")) spec.skeleton = ops_of(ops);
  if (const py::handle ops = fields.get("mounts")) spec.mounts = ops_of(ops);
}

void read_privileges(const Fields& fields, PlanSpec& spec) {
  if (const py::handle rows = fields.get("rlimits")) {
    for (py::handle item : rows) {
      const auto row = py::reinterpret_borrow<py::tuple>(item);
      spec.rlimits.push_back(
          {row[0].cast<uint32_t>(), 0, row[1].cast<uint64_t>(), row[2].cast<uint64_t>()});
    }
  }
  fields.value("capabilities", spec.capabilities);
  fields.value("no_new_privs", spec.no_new_privs);
  fields.value("new_keyring", spec.new_keyring);
  const py::handle seccomp = fields.get("seccomp");
  if (!seccomp || seccomp.is_none()) return;
  spec.has_seccomp = true;
  if (seccomp.is(py::bool_(true))) {  // the default profile, compiled when this module was
    spec.seccomp.assign(reinterpret_cast<const char*>(kDefaultSeccomp), sizeof kDefaultSeccomp);
  } else {
    spec.seccomp = bytes_of(seccomp);
  }
}

void read_exec(const Fields& fields, parent::ExecSpec& exec) {
  fields.list("candidates", exec.candidates);
  fields.list("argv", exec.argv);
  fields.list("env", exec.env);
  if (const py::handle cwd = fields.get("cwd")) exec.cwd = bytes_of(cwd);
}

std::shared_ptr<PlanSpec> make_plan(const py::dict& dict) {
  auto spec = std::make_shared<PlanSpec>();
  const Fields fields(dict);
  fields.value("namespaces", spec->namespaces);
  read_ids(fields, *spec);
  fields.text("hostname", spec->hostname);
  fields.value("loopback", spec->loopback);
  fields.value("private_clock", spec->private_clock);
  read_root(fields, *spec);
  read_privileges(fields, *spec);
  fields.value("init", spec->init);
  fields.value("own_memory", spec->own_memory);
  fields.value("foreign_program", spec->foreign_program);
  fields.value("may_landlock", spec->may_landlock);
  fields.value("hand_out", spec->hand_out);
  fields.value("can_park_ready", spec->can_park_ready);
  fields.value("kill_by_cgroup", spec->kill_by_cgroup);
  fields.value("memory_limit", spec->memory_limit);
  const py::handle cgroup = fields.get("cgroup");
  if (cgroup && !cgroup.is_none()) spec->cgroup = cgroup_of(cgroup);
  read_exec(fields, spec->exec);
  return spec;
}

// ---- to Python
// ------------------------------------------------------------------------------------

void raise_launch_error(const parent::LaunchFailure& failure) {
  const auto type = py::module_::import("pyminicon._explain").attr("launch_error");
  const py::object error =
      type(failure.error, stage_name(failure.stage),
           py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefaultAndSize(
               failure.subject.data(), static_cast<Py_ssize_t>(failure.subject.size()))),
           failure.hint.empty() ? py::object(py::none()) : py::object(py::str(failure.hint)));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
}

parent::Interrupted check_signals() {
  return [] {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  };
}

py::object bytes_from(const parent::Output& output) {
  auto* object = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(output.size()));
  if (object == nullptr) throw py::error_already_set();
  output.copy_to(PyBytes_AS_STRING(object));
  return py::reinterpret_steal<py::object>(object);
}

template <typename T>
py::object or_none(const std::optional<T>& value) {
  return value ? py::cast(*value) : py::object(py::none());
}

// (wall, user, system, memory_peak, pids_peak, io_read, io_written)
py::tuple usage_of(const Launched& container, const parent::CgroupUsage& usage) {
  const int64_t until = container.reaped ? container.ended : parent::now_ns();
  const double wall = static_cast<double>(until - container.started) * 1e-9;
  return py::make_tuple(wall, usage.user.value_or(container.user),
                        usage.system.value_or(container.system), or_none(usage.memory_peak),
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

// ---- running
// --------------------------------------------------------------------------------------

// As in subprocess: PIPE, STDOUT, DEVNULL; any other value is a descriptor.
constexpr int kPipe = -1, kStdout = -2, kDevnull = -3;

struct ChildEnds {
  parent::Fd owned[3];
};

void open_stdio(const py::tuple& wanted, parent::LaunchOptions& options, ChildEnds& ends,
                parent::Streams& streams) {
  parent::Fd* ours[3] = {&streams.input, &streams.output, &streams.error};
  for (int i = 0; i < 3; ++i) {
    const int choice = wanted[static_cast<size_t>(i)].cast<int>();
    options.stdio[i] = choice;
    const bool absent = choice == i && fcntl(i, F_GETFD) < 0;  // a daemon that has closed its own
    if (choice == kStdout) {
      options.stdio[i] = options.stdio[1];
    } else if (choice == kPipe) {
      parent::Pipe pipe = parent::make_pipe();
      ends.owned[i] = std::move(i == 0 ? pipe.read : pipe.write);
      *ours[i] = std::move(i == 0 ? pipe.write : pipe.read);
      options.stdio[i] = ends.owned[i].get();
    } else if (choice == kDevnull || absent) {
      options.stdio[i] = kNullDevice;
    }
  }
}

// A running container, shared with the watchdog where it has limits.
struct Handle {
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  // Whoever lets go of it ends it; the watchdog, which may hold it too, only looks on.
  ~Handle() {
    if (guarded.use_count() < 2 || !container().owned()) return;
    const std::lock_guard lock(guarded->lock);
    container().kill();
  }

  std::shared_ptr<parent::Guarded> guarded = std::make_shared<parent::Guarded>();
  parent::Streams streams;

  Launched& container() const { return guarded->container; }
};

void launch_into(Handle& handle, const PlanSpec& spec, const py::tuple& stdio,
                 const std::vector<int>& pass, bool terminal, bool trace, int64_t deadline,
                 int cancel = -1) {
  parent::LaunchOptions options;
  options.cancel = cancel;
  options.pass = pass;
  options.trace = trace;
  options.terminal = terminal;
  options.deadline = deadline;
  options.interrupted = check_signals();
  ChildEnds ends;
  open_stdio(stdio, options, ends, handle.streams);
  const py::gil_scoped_release nogil;
  handle.container() = parent::launch(spec, options);
}

// Puts the watchdog between the container's pipe and the reader's.
void count_output(Handle& handle) {
  parent::Fd* ours[2] = {&handle.streams.output, &handle.streams.error};
  for (int i = 0; i < 2; ++i) {
    if (!*ours[i]) continue;
    parent::Pipe pipe = parent::make_pipe();
    handle.guarded->relays[i].from = std::move(*ours[i]);
    handle.guarded->relays[i].to = std::move(pipe.write);
    *ours[i] = std::move(pipe.read);
  }
}

int64_t deadline_in(const py::object& seconds, int64_t from) {
  if (seconds.is_none()) return parent::kNever;
  const double wait = seconds.cast<double>() * 1e9;
  return wait > 9e18 ? parent::kNever : from + static_cast<int64_t>(wait);
}

py::object collected(const Handle& handle, const py::object& paths, uint64_t max) {
  if (paths.is_none()) return py::none();
  py::dict files;
  for (py::handle path : paths) {
    std::optional<std::string> bytes;
    const std::string name = bytes_of(path);
    {
      const py::gil_scoped_release nogil;
      bytes = parent::collect_file(handle.container().root.get(), name, max);
    }
    if (bytes) files[path] = py::bytes(*bytes);
  }
  return files;
}

// Below 1 MiB no program can start; the kernel's killer there is a failed launch.
constexpr uint64_t kSmallestMemory = 1 << 20;

// What a run is asked besides its plan; the order is that of _core.run's arguments.
struct RunRequest {
  py::object input, timeout, wall_time;
  double cpu_time;
  uint64_t max_output;
  py::object collect;
  uint64_t collect_max;
};

py::tuple timed_out_in_setup(bool by_caller) {
  return py::make_tuple(-SIGKILL, py::none(), py::none(), by_caller ? nullptr : "wall_time",
                        by_caller, py::none(), 0.0, py::none(), py::none());
}

// From the started container to the result tuple. `check` throws if exec had failed.
template <typename Check>
py::tuple finish_run(std::unique_ptr<Handle> handle, const RunRequest& request,
                     const std::string& program, int64_t begun, parent::Stock* stock,
                     const Check& check) {
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
    supervise(container, handle->streams, feed, limits, check_signals(), outcome);
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

py::tuple run(const PlanSpec& spec, const py::tuple& stdio, const std::vector<int>& pass,
              bool trace, const py::object& input, const py::object& timeout,
              const py::object& wall_time, double cpu_time, uint64_t max_output,
              const py::object& collect, uint64_t collect_max) {
  const int64_t begun = parent::now_ns();
  const int64_t by_caller = deadline_in(timeout, begun), by_wall = deadline_in(wall_time, begun);
  auto handle = std::make_unique<Handle>();
  try {
    launch_into(*handle, spec, stdio, pass, false, trace, std::min(by_caller, by_wall));
  } catch (const parent::SetupTimeout&) {
    return timed_out_in_setup(by_caller <= by_wall);
  }
  const RunRequest request{input, timeout, wall_time, cpu_time, max_output, collect, collect_max};
  return finish_run(std::move(handle), request, spec.exec.argv.empty() ? "" : spec.exec.argv[0],
                    begun, nullptr, [](Launched&, const parent::Outcome&) {});
}

// ---- templates
// ------------------------------------------------------------------------------------

struct TemplateCore {
  TemplateCore(std::shared_ptr<PlanSpec> the_spec, std::string the_id, size_t size)
      : spec(std::move(the_spec)), id(the_id), stock(spec, std::move(the_id), size) {
    parent::LaunchOptions options;
    options.interrupted = check_signals();
    const py::gil_scoped_release nogil;
    stock.warm(options);
  }

  std::shared_ptr<PlanSpec> spec;
  std::string id;
  parent::Stock stock;
};

// What a run of a template is: (candidates, argv, env, cwd, files, uid, gid).
struct TemplateRun {
  explicit TemplateRun(const py::tuple& row) : files(row[4]) {
    exec.candidates = list_of_bytes(row[0]);
    exec.argv = list_of_bytes(row[1]);
    exec.env = list_of_bytes(row[2]);
    exec.cwd = bytes_of(row[3]);
    uid = row[5].cast<uint32_t>();
    gid = row[6].cast<uint32_t>();
  }
  parent::ExecSpec exec;
  py::object files;  // ((path, bytes, mode), ...)
  uint32_t uid, gid;
};

void put_files(const parent::Parked& parked, const TemplateRun& run) {
  for (py::handle item : run.files) {
    const auto row = py::reinterpret_borrow<py::tuple>(item);
    parent::put_file(parked.container.root.get(), bytes_of(row[0]), bytes_of(row[1]),
                     row[2].cast<uint32_t>(), run.uid, run.gid);
  }
}

// Takes a container from the stock and sends it on its way; the stream ends are in `handle`.
parent::Parked dispatch(TemplateCore& core, TemplateRun& run, const py::tuple& stdio,
                        const std::vector<int>& pass, int64_t deadline, bool confirm,
                        Handle& handle) {
  parent::LaunchOptions options;
  options.pass = pass;
  options.deadline = deadline;
  options.interrupted = check_signals();
  ChildEnds ends;
  open_stdio(stdio, options, ends, handle.streams);
  const int64_t begun = parent::now_ns();
  parent::Parked parked;
  {
    const py::gil_scoped_release nogil;
    parked = core.stock.take(options);
  }
  put_files(parked, run);
  for (std::string& variable : run.exec.env) parent::rename_id(variable, core.id, parked.id);
  const py::gil_scoped_release nogil;
  parent::unpark(parked, run.exec, options, confirm);
  parked.container.begun = begun;
  return parked;
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

py::tuple template_run(TemplateCore& core, const py::tuple& what, const py::tuple& stdio,
                       const std::vector<int>& pass, bool trace, const py::object& input,
                       const py::object& timeout, const py::object& wall_time, double cpu_time,
                       uint64_t max_output, const py::object& collect, uint64_t collect_max) {
  const int64_t begun = parent::now_ns();
  const int64_t by_caller = deadline_in(timeout, begun), by_wall = deadline_in(wall_time, begun);
  const parent::RefillAfter refill(core.stock);
  auto handle = std::make_unique<Handle>();
  TemplateRun told(what);
  parent::Parked parked;
  try {
    parked = dispatch(core, told, stdio, pass, std::min(by_caller, by_wall), false, *handle);
  } catch (const parent::SetupTimeout&) {
    return timed_out_in_setup(by_caller <= by_wall);
  }
  handle->container() = std::move(parked.container);
  const RunRequest request{input, timeout, wall_time, cpu_time, max_output, collect, collect_max};
  return finish_run(std::move(handle), request, told.exec.argv[0], begun, &core.stock,
                    [&parked, &told, trace](Launched& container, const parent::Outcome& end) {
                      const bool stopped = end.timed_out || end.limit != parent::Limit::kNone;
                      parent::check_run(parked, told.exec, stopped);
                      settle_times(container, parked, trace);
                    });
}

void hold_limits(Handle& handle, const py::object& wall_time, double cpu_time,
                 uint64_t max_output) {
  parent::Guarded& guarded = *handle.guarded;
  guarded.limits.wall = deadline_in(wall_time, guarded.container.started);
  guarded.limits.cpu = cpu_time;
  guarded.limits.output = max_output;
  if (max_output != UINT64_MAX) count_output(handle);
  if (guarded.needs_watchdog()) parent::watch_over(handle.guarded);
}

std::unique_ptr<Handle> start(const PlanSpec& spec, const py::tuple& stdio,
                              const std::vector<int>& pass, bool terminal, bool trace,
                              const py::object& wall_time, double cpu_time, uint64_t max_output,
                              int cancel) {
  auto handle = std::make_unique<Handle>();
  const int64_t begun = parent::now_ns();
  launch_into(*handle, spec, stdio, pass, terminal, trace, deadline_in(wall_time, begun), cancel);
  hold_limits(*handle, wall_time, cpu_time, max_output);
  return handle;
}

py::tuple template_start(TemplateCore& core, const py::tuple& what, const py::tuple& stdio,
                         const std::vector<int>& pass, const py::object& wall_time, double cpu_time,
                         uint64_t max_output) {
  const parent::RefillAfter refill(core.stock);
  auto handle = std::make_unique<Handle>();
  TemplateRun told(what);
  parent::Parked parked =
      dispatch(core, told, stdio, pass, deadline_in(wall_time, parent::now_ns()), true, *handle);
  handle->container() = std::move(parked.container);
  settle_times(handle->container(), parked, false);
  hold_limits(*handle, wall_time, cpu_time, max_output);
  return py::make_tuple(std::move(handle), parked.id);
}

// ---- the handle's methods
// -------------------------------------------------------------------------

// None while it runs, else (returncode or None, limit or None); the cgroups are gone then.
py::object poll_handle(Handle& handle) {
  parent::Guarded& guarded = *handle.guarded;
  bool done;
  {
    const py::gil_scoped_release nogil;
    // After a fork the lock may be held by a thread that isn't here.
    if (!guarded.container.owned()) return py::none();
    const std::lock_guard lock(guarded.lock);
    Launched& container = guarded.container;
    const bool before = container.reaped;
    done = container.owned() && container.reap(false);
    if (done && !before) {
      const bool oom =
          container.cgroup && container.memory_limit != 0 && container.cgroup->oom_killed();
      if (guarded.limit == parent::Limit::kNone && oom) guarded.limit = parent::Limit::kMemory;
      container.keep_usage();
      container.remove_leftovers();
    }
  }
  if (!done) return py::none();
  return py::make_tuple(or_none(guarded.container.returncode), parent::limit_name(guarded.limit));
}

// Waits for the pidfd without the lock, so that others may kill meanwhile.
bool wait_handle(Handle& handle, const py::object& timeout) {
  const int64_t deadline = deadline_in(timeout, parent::now_ns());
  const auto interrupted = check_signals();
  const py::gil_scoped_release nogil;
  for (;;) {
    pollfd watched{handle.container().pidfd.get(), POLLIN, 0};
    int wait = -1;
    if (deadline != parent::kNever) {
      const int64_t left = deadline - parent::now_ns();
      wait =
          left <= 0 ? 0 : static_cast<int>(std::min<int64_t>((left + 999999) / 1000000, 1 << 30));
    }
    const int ready = ::poll(&watched, 1, wait);
    if (ready > 0) return true;
    if (ready == 0 && wait == 0) return false;
    if (ready < 0 && errno == EINTR) interrupted();
  }
}

// Runs `act` on the container with the lock and without the GIL, if it is ours and still there.
template <typename Act>
bool with_running(Handle& handle, Act act) {
  const py::gil_scoped_release nogil;
  if (!handle.container().owned()) return false;  // after a fork the lock may be held for ever
  const std::lock_guard lock(handle.guarded->lock);
  Launched& container = handle.container();
  if (container.reaped) return false;
  act(container);
  return true;
}

bool send_signal(Handle& handle, int number) {
  return with_running(handle, [number](Launched& container) {
    if (number == SIGKILL) return container.kill();  // ends what is frozen, too
    syscall(kernel::kSysPidfdSendSignal, container.pidfd.get(), number, nullptr, 0);
  });
}

bool kill_handle(Handle& handle) {
  return with_running(handle, [](Launched& container) { container.kill(); });
}

parent::Cgroup& cgroup_of_running(Launched& container) {
  if (!container.cgroup) {
    throw parent::LaunchFailure(EOPNOTSUPP, Stage::kCgroup, "",
                                "the container has no cgroup; start it with usage=True or a limit");
  }
  return *container.cgroup;
}

bool freeze(Handle& handle, bool frozen) {
  return with_running(handle, [frozen](Launched& container) {
    cgroup_of_running(container);
    container.freeze(frozen);
  });
}

bool update(Handle& handle, const py::iterable& changes) {
  std::vector<parent::CgroupChange> list;
  for (py::handle item : changes) {
    const auto row = py::reinterpret_borrow<py::tuple>(item);
    list.push_back({row[0].cast<uint32_t>(), bytes_of(row[1]), bytes_of(row[2])});
  }
  return with_running(handle, [&list](Launched& c) { cgroup_of_running(c).update(list); });
}

// Gives up the descriptors of a container that has been reaped.
void release(Handle& handle) {
  const py::gil_scoped_release nogil;
  Launched& container = handle.container();
  std::unique_lock lock(handle.guarded->lock, std::defer_lock);
  if (container.owned()) lock.lock();  // after a fork it may be held for ever
  if (container.owned() && !container.reaped) return;
  container.pidfd.reset();
  container.root.reset();
  container.mount_namespace.reset();
  if (container.reaped) container.cgroup.reset();  // what is left of it are descriptors
}

py::tuple handle_usage(Handle& handle) {
  parent::CgroupUsage usage;
  if (handle.container().owned()) {
    const py::gil_scoped_release nogil;
    const std::lock_guard lock(handle.guarded->lock);
    Launched& container = handle.container();
    if (container.reaped) {
      usage = container.last_usage;
    } else if (container.cgroup) {
      usage = container.cgroup->usage();
    }
  }
  return usage_of(handle.container(), usage) +
         py::make_tuple(or_none(usage.memory_current), or_none(usage.pids_current));
}

}  // namespace
}  // namespace pyminicon

PYBIND11_MODULE(_core, module, py::mod_gil_not_used(),
                py::multiple_interpreters::per_interpreter_gil()) {
  using namespace pyminicon;
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const parent::LaunchFailure& failure) {
      raise_launch_error(failure);
    } catch (const parent::SetupTimeout&) {
      raise_launch_error({ETIMEDOUT, Stage::kHelper, ""});
    }
  });
  py::class_<PlanSpec, std::shared_ptr<PlanSpec>>(module, "Plan").def(py::init(&make_plan));
  py::class_<Handle>(module, "Handle")
      .def_property_readonly("pid", [](const Handle& h) { return h.container().pid; })
      .def_property_readonly("pidfd", [](const Handle& h) { return h.container().pidfd.get(); })
      .def_property_readonly("owned", [](const Handle& h) { return h.container().owned(); })
      .def_property_readonly("startup", [](const Handle& h) { return startup_of(h.container()); })
      .def_property_readonly("trace", [](const Handle& h) { return trace_of(h.container()); })
      .def("take_stream",
           [](Handle& h, int which) {
             parent::Fd* fds[3] = {&h.streams.input, &h.streams.output, &h.streams.error};
             return fds[which]->release();
           })
      .def("poll", &poll_handle)
      .def("wait", &wait_handle)
      .def("send_signal", &send_signal)
      .def("kill", &kill_handle)
      .def("give_up", [](Handle& h) { h.container().given_up = true; })
      .def("usage", &handle_usage)
      .def("release", &release)
      .def("freeze", &freeze)
      .def("update", &update)
      .def("collect", &collected);
  module.def("start", &start, py::arg(), py::arg(), py::arg(), py::arg(), py::arg(), py::arg(),
             py::arg(), py::arg(), py::arg("cancel_fd") = -1);
  py::class_<TemplateCore>(module, "Template")
      .def(py::init<std::shared_ptr<PlanSpec>, std::string, size_t>())
      .def_property_readonly("ready", [](const TemplateCore& core) { return core.stock.ready(); })
      .def_property_readonly("owned", [](const TemplateCore& core) { return core.stock.owned(); })
      .def("close",
           [](TemplateCore& core) {
             const py::gil_scoped_release nogil;
             core.stock.close();
           })
      .def("run", &template_run)
      .def("start", &template_start);
  module.def("run", &run);
  module.def("read_beneath", [](py::handle root, py::handle path, uint64_t max) -> py::object {
    const auto bytes = parent::read_in_root(bytes_of(root), bytes_of(path), max);
    return bytes ? py::object(py::bytes(*bytes)) : py::none();
  });
  py::list stages;
  for (uint32_t i = 0; i < static_cast<uint32_t>(Stage::kCount); ++i) {
    stages.append(stage_name(static_cast<Stage>(i)));
  }
  module.attr("STAGES") = py::tuple(stages);
}
