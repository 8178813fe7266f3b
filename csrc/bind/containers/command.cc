#include "bind/containers/command.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <tuple>

#include "base/kernel.h"
#include "bind/containers/run.h"
#include "bind/values/from_python.h"
#include "bind/values/gil.h"
#include "parent/failure.h"
#include "parent/inside/collect.h"
#include "parent/launch/command.h"
#include "parent/process/patience.h"

namespace pyminicon::bind {
namespace {

using parent::CommandSpec;
using parent::Launched;

// What it takes to reach the init of a container, whoever closes that meanwhile. Without the
// interpreter's lock where somebody else is at the container.
std::shared_ptr<parent::Living> living_of(Handle& handle) {
  const Launched& container = handle.container();
  if (!container.owned()) return nullptr;
  const auto look = [&container] { return container.reaped ? nullptr : container.living; };
  if (const std::unique_lock lock(handle.guarded->lock, std::try_to_lock); lock) return look();
  const NoGil nogil;
  const std::lock_guard lock(handle.guarded->lock);
  return look();
}

std::shared_ptr<parent::Living> insist_on_living(Handle& handle) {
  auto living = living_of(handle);
  if (!living) throw parent::LaunchFailure(ESHUTDOWN, Stage::kClone, "");
  return living;
}

// What the cgroup of a command has to count, and by what where its container's doesn't.
struct Counting {
  Counting() = default;
  explicit Counting(const Request& request) : timed(request.cpu_time > 0) {
    if (timed && !request.clock.is_none()) clock = cgroup_of(request.clock);
  }
  bool timed = false;
  std::optional<parent::CgroupSpec> clock;
};

// Not now, or it never began: whoever asks for it in steps is to begin it again. No failure of the
// kernel's has this number.
[[noreturn]] void begin_again() { throw parent::LaunchFailure(ERESTART, Stage::kClone, ""); }

// As an event loop takes it, which doesn't wait for whoever else is at the container.
std::unique_lock<std::mutex> lock_at(Handle& handle, bool waits) {
  if (waits) return std::unique_lock(handle.guarded->lock);
  return {handle.guarded->lock, std::try_to_lock};
}

parent::CommandGroup group_for(Handle& handle, const Counting& counting, bool waits = true) {
  const auto lock = lock_at(handle, waits);
  if (!lock) begin_again();
  const Launched& container = handle.container();
  if (container.reaped || container.doomed || !container.living) {
    throw parent::LaunchFailure(ESHUTDOWN, Stage::kClone, "");
  }
  const parent::CgroupSpec* const clock = counting.clock ? &*counting.clock : nullptr;
  return parent::group_for_command(handle.container(), counting.timed, clock);
}

using Who = decltype(Request::who);

// As whom the container is run, or as `who`.
CommandSpec command_of(const parent::Living& living, const Who& who) {
  CommandSpec command = living.ground().usual;
  if (!who) return command;
  command.ids.change = 1;
  command.ids.uid = std::get<0>(*who);
  command.ids.gid = std::get<1>(*who);
  command.groups.clear();
  if (command.ids.set_groups != 0) command.groups = std::get<2>(*who);
  return command;
}

CommandSpec command_of(const parent::Living& living, const Request& request) {
  CommandSpec command = command_of(living, request.who);
  command.exec = make_exec(request.exec_spec);
  return command;
}

// A command's streams, and what else its start is told.
struct CommandStart {
  CommandStart(Handle& handle, const Request& request, int64_t deadline) {
    open_stdio(request.stdio, options, ends, handle.streams);
    options.pass = request.pass_fds;
    options.terminal = request.terminal;
    options.trace = request.trace;
    options.deadline = deadline;
    options.cancel = request.cancel_fd;
  }
  parent::LaunchOptions options;
  ChildEnds ends;
};

// By a worker. All of this is done without the interpreter's lock.
void begin(Handle& handle, Handle& container, const std::shared_ptr<parent::Living>& living,
           const CommandSpec& command, parent::LaunchOptions& options, const Counting& counting) {
  handle.id = container.id;
  parent::CommandGroup group = group_for(container, counting);
  handle.container() = parent::start_command(living, command, options, std::move(group));
}

// True where somebody waited for it inside. It may not have been heard of yet.
bool send_to_runner(Handle& handle, Handle& container,
                    const std::shared_ptr<parent::Living>& living, const CommandSpec& command,
                    const parent::LaunchOptions& options, const Counting& counting, bool waits) {
  // How it couldn't begin is told by what a filter of the caller's may forbid.
  const bool tells = command.quiet || living->ground().seccomp.empty();
  if (!tells || counting.clock) return false;
  std::optional<parent::Runner> runner;
  uint64_t memory_limit = 0;
  {
    const auto lock = lock_at(container, waits);
    const Launched& about = container.container();
    if (!lock || about.reaped || about.doomed || !about.living) return false;
    memory_limit = about.memory_limit;
    runner = living->take_runner(about.cgroup ? &*about.cgroup : nullptr, memory_limit != 0);
  }
  if (!runner) return false;
  auto made = parent::send_to_runner(living, command, options, std::move(*runner), memory_limit);
  if (!made) return false;
  handle.id = container.id;
  handle.container() = std::move(*made);
  return true;
}

// By whoever waits for it inside, where there is somebody; `ahead`: whether it may. Else by a
// worker.
void begin_anywhere(Handle& handle, Handle& container,
                    const std::shared_ptr<parent::Living>& living, const CommandSpec& command,
                    parent::LaunchOptions& options, const Counting& counting, bool ahead) {
  const NoGil nogil;
  options.interrupted = check_signals;
  if (ahead && send_to_runner(handle, container, living, command, options, counting, true)) {
    parent::await_beginning(handle.container(), *living, command, options);
  } else {
    begin(handle, container, living, command, options, counting);
  }
  await_commands(container);
}

// What `begin` begins, again where it never began. Whoever kills all workers over and over doesn't
// have a processor for it. Its argument: whether this is the first time.
template <typename Begin>
auto insist_on(Begin begin) {
  constexpr int kMost = 50;
  for (int again = 0; again < kMost; ++again) {
    try {
      return begin(again == 0);
    } catch (const parent::NeverBegan&) {
      const NoGil nogil;
      poll(nullptr, 0, std::max(again - 2, 0));
    }
    check_signals();
  }
  throw parent::LaunchFailure(EAGAIN, Stage::kClone, "",
                              "who was to begin it was killed each time");
}

Outcome run_once(Handle& container, const Request& request, const SetupTimes& times, bool ahead) {
  Released<Handle> handle(new Handle);
  const auto living = insist_on_living(container);
  CommandSpec command = command_of(*living, request);
  command.quiet = !request.trace;
  try {
    CommandStart start(*handle, request, times.first());
    begin_anywhere(*handle, container, living, command, start.options, Counting(request), ahead);
  } catch (const parent::SetupTimeout&) {
    return times.passed();
  }
  return finish_run(std::move(handle), request, times.begun, nullptr,
                    [&living, &command](Launched& made, const parent::Outcome&) {
                      parent::insist_on_beginning(made, *living, command);
                    });
}

Outcome run_command(Handle& container, const Request& request) {
  const SetupTimes times(request);
  return insist_on([&](bool first) { return run_once(container, request, times, first); });
}

Released<Handle> start_command(Handle& container, const Request& request) {
  const int64_t deadline = deadline_in(request.wall_time, parent::now_ns());
  auto handle = insist_on([&](bool first) {
    Released<Handle> one(new Handle);
    const auto living = insist_on_living(container);
    const CommandSpec command = command_of(*living, request);
    CommandStart start(*one, request, deadline);
    begin_anywhere(*one, container, living, command, start.options, Counting(request), first);
    return one;
  });
  hold_limits(*handle, request.wall_time, request.cpu_time, request.max_output);
  return handle;
}

// What is begun by an event loop: sent at once or not at all, and heard of later. ERESTART: it is
// to be begun again, by another of these.
class Begun {
 public:
  Begun(Handle& container, const Request& request)
      : living_(insist_on_living(container)),
        command_(command_of(*living_, request)),
        wall_time_(request.wall_time),
        cpu_time_(request.cpu_time),
        max_output_(request.max_output) {
    CommandStart start(*handle_, request, 0);
    handle_->id = container.id;
    const Counting counting(request);
    bool sent = false;
    {
      const NoGil nogil;
      sent = send_to_runner(*handle_, container, living_, command_, start.options, counting, false);
    }
    if (!sent) send(container, start.options, counting);
    const NoGil nogil;
    await_commands(container);
  }

  int fd() const { return handle_ ? handle_->container().pidfd.get() : -1; }

  // The command once it runs; None: not yet.
  py::object result() {
    if (!handle_) throw std::logic_error("the command has been handed over");
    bool heard = false;
    try {
      const NoGil nogil;  // it may ask the container's init
      heard = parent::heard_of(handle_->container(), *living_, command_);
    } catch (const parent::NeverBegan&) {
      begin_again();
    }
    if (!heard) return py::none();
    hold_limits(*handle_, wall_time_, cpu_time_, max_output_);
    return py::cast(Released<Handle>(handle_.release()));
  }

  // It is to be ended, whatever has become of it: its handle.
  py::object given_up() {
    if (!handle_) throw std::logic_error("the command has been handed over");
    handle_->container().unborn = false;
    handle_->container().kill();
    return py::cast(Released<Handle>(handle_.release()));
  }

 private:
  void send(Handle& container, const parent::LaunchOptions& options, const Counting& counting) {
    try {
      parent::CommandGroup group;
      {
        const NoGil nogil;
        group = group_for(container, counting, false);
      }
      handle_->container() = parent::send_command(living_, command_, options, std::move(group));
    } catch (const parent::SetupTimeout&) {  // its init has more to do than its socket holds
      begin_again();
    }
  }

  std::shared_ptr<parent::Living> living_;
  CommandSpec command_;
  Seconds wall_time_;
  double cpu_time_;
  MostOutput max_output_;
  std::unique_ptr<Handle> handle_ =
      std::make_unique<Handle>();  // let go of without the GIL, as this
};

// A process inside that works on files for whoever has the other end of `socket`. `strict`: without
// capabilities, so that modes hold for root as well.
Released<Handle> serve_files(Handle& container, const Who& who, bool strict, int socket) {
  CommandSpec command = command_of(*insist_on_living(container), who);
  command.kind = CommandKind::kServeFiles;
  if (strict) command.capabilities = 0;
  parent::LaunchOptions options;
  options.stdio[0] = socket;
  options.stdio[1] = options.stdio[2] = kNullDevice;
  constexpr int64_t kPatience = 10000000000;  // ns, as for what it is asked
  options.deadline = parent::now_ns() + kPatience;
  options.interrupted = check_signals;
  auto handle = insist_on([&](bool /*first*/) {
    Released<Handle> one(new Handle);
    const auto living = insist_on_living(container);
    const NoGil nogil;
    begin(*one, container, living, command, options, {});
    return one;
  });
  handle->container().alone = true;
  handle->container().given_up = true;  // nobody waits for its end: a file system may hold it
  return handle;
}

// As the caller's own PID namespace counts; None where that can't be told.
py::object host_pid(const Handle& handle) {
  const parent::Launched& one = handle.container();
  const int pidfd = one.command ? one.command->pidfd() : one.pidfd.get();
  char path[48], text[256];
  std::snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
  const parent::Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t got = file ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (got <= 0) return py::none();
  text[got] = 0;
  const char* line = std::strstr(text, "\nPid:");
  const long pid = line != nullptr ? std::strtol(line + 5, nullptr, 10) : 0;
  return pid > 0 ? py::object(py::int_(pid)) : py::none();
}

}  // namespace

void bind_commands(py::module_& module, py::class_<Handle, Released<Handle>>& handle) {
  py::class_<Begun, Released<Begun>>(module, "Begun")
      .def(py::init<Handle&, const Request&>())
      .def_property_readonly("fd", &Begun::fd)
      .def("result", &Begun::result)
      .def("given_up", &Begun::given_up);
  handle.def("run_command", &run_command)
      .def("start_command", &start_command)
      .def("serve_files", &serve_files)
      .def_property_readonly("host_pid", &host_pid)
      .def_property_readonly("ending",
                             [](Handle& h) {
                               const auto living = living_of(h);
                               return !living || living->ended();
                             })
      .def_property_readonly("uid",
                             [](Handle& h) {
                               const auto living = living_of(h);
                               return living ? living->ground().usual.ids.uid : 0;
                             })
      .def_property_readonly("takes_commands", [](Handle& h) { return living_of(h) != nullptr; })
      .def_property_readonly("counts_cpu_time",
                             [](Handle& h) {
                               if (!h.container().owned()) return false;  // nor is its lock
                               const NoGil nogil;
                               const std::lock_guard lock(h.guarded->lock);
                               const auto& cgroup = h.container().cgroup;
                               return cgroup && cgroup->cpu_seconds().has_value();
                             })
      .def("close_living",
           [](Handle& h) {
             const auto living = living_of(h);
             if (living && living->lives()) living->close();
             return living && living->lives();
           })
      .def("terminate", [](Handle& h, uint32_t number) {
        if (const auto living = living_of(h)) living->order(InitOrder::kTerminate, number);
      });
}

}  // namespace pyminicon::bind
