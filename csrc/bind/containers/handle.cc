#include "bind/containers/handle.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "base/kernel.h"
#include "bind/values/from_python.h"
#include "bind/values/to_python.h"
#include "parent/failure.h"
#include "parent/files/reopen.h"
#include "parent/inside/collect.h"
#include "parent/launch/command.h"
#include "parent/launch/job.h"
#include "parent/reaper/reaper.h"
#include "parent/supervise/pauses.h"
#include "parent/supervise/supervise.h"

namespace pyminicon::bind {

using parent::Launched;

namespace {

// As in subprocess: PIPE, STDOUT, DEVNULL; any other value is a descriptor.
constexpr int kPipe = -1, kStdout = -2, kDevnull = -3;

// Puts the limit thread between the container's pipe and the reader's.
void pass_on(parent::Fd& ours, parent::Fd& from, parent::Fd& to) {
  if (!ours) return;
  parent::Pipe pipe = parent::make_pipe();
  from = std::exchange(ours, std::move(pipe.read));
  to = std::move(pipe.write);
}

// Runs `act` on the container with the lock and without the GIL, if it is ours and still there.
template <typename Act>
bool with_running(Handle& handle, Act act) {
  const NoGil nogil;
  if (!handle.container().owned()) return false;  // after a fork the lock may be held for ever
  const std::lock_guard lock(handle.guarded->lock);
  Launched& container = handle.container();
  if (container.reaped) return false;
  act(container);
  return true;
}

// Its pidfd for one waiter; empty where there is nothing to wait for: closed, or given up.
parent::Fd copy_to_wait_for(Handle& handle) {
  const std::lock_guard lock(handle.guarded->lock);
  const Launched& container = handle.container();
  if (container.given_up || !container.pidfd) return {};
  if (!handle.given_up) handle.given_up = parent::Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  parent::Fd copy(fcntl(container.pidfd.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy || !handle.given_up) {
    throw parent::LaunchFailure(errno, Stage::kPrepare, "descriptor of a wait");
  }
  return copy;
}

bool close_living(Launched& container) {
  if (container.reaped || !container.living || !container.living->lives()) return false;
  container.doomed = true;
  container.living->close();
  return true;
}

void kill_now(Handle& handle) {
  const std::lock_guard lock(handle.guarded->lock);
  handle.container().kill();
}

parent::Cgroup& cgroup_of_running(Launched& container) {
  if (!container.cgroup) {
    throw parent::LaunchFailure(EOPNOTSUPP, Stage::kCgroup, "",
                                "the container has no cgroup; start it with usage=True or a limit");
  }
  return *container.cgroup;
}

}  // namespace

void open_stdio(const std::array<int, 3>& wanted, parent::LaunchOptions& options, ChildEnds& ends,
                parent::Streams& streams) {
  parent::Fd* ours[3] = {&streams.input, &streams.output, &streams.error};
  for (int i = 0; i < 3; ++i) {
    const int choice = wanted[static_cast<size_t>(i)];
    options.stdio[i] = choice;
    if (choice == kStdout) {
      options.stdio[i] = options.stdio[1];
    } else if (choice == kPipe) {
      parent::Pipe pipe = parent::make_pipe();
      ends.owned[i] = std::move(i == 0 ? pipe.read : pipe.write);
      *ours[i] = std::move(i == 0 ? pipe.write : pipe.read);
      options.stdio[i] = ends.owned[i].get();
    } else if (choice == kDevnull) {
      options.stdio[i] = kNullDevice;
    }
    const bool open = options.stdio[i] < 0 || parent::let_reopen(options.stdio[i]);
    if (choice == i && !open) options.stdio[i] = kNullDevice;  // a daemon that has closed its own
  }
}

void hold_limits(Handle& handle, Seconds wall_time, double cpu_time, MostOutput max_output) {
  parent::RunLimits limits;
  limits.wall = deadline_in(wall_time, handle.container().started);
  limits.cpu = cpu_time;
  limits.output = max_output.value_or(UINT64_MAX);
  parent::Streams counted;
  if (max_output) {
    pass_on(handle.streams.output, counted.output, counted.output_to);
    pass_on(handle.streams.error, counted.error, counted.error_to);
  }
  parent::watch_over(handle.guarded, limits, std::move(counted));
}

void await_commands(Handle& container) {
  const std::unique_lock lock(container.guarded->lock, std::try_to_lock);
  if (lock && parent::wants_runner(container.container())) parent::expect_pause(container.guarded);
}

void insist_on_room(const Handle& handle, const std::string& program) {
  const uint64_t limit = handle.container().memory_limit;
  if (limit == 0 || limit >= parent::kSmallestMemory) return;
  throw parent::LaunchFailure(ENOMEM, Stage::kExec, program,
                              "killed for memory: below 1M nothing may start");
}

py::object collected(const Handle& handle, const py::object& paths, uint64_t max,
                     int64_t deadline) {
  if (paths.is_none()) return py::none();
  const std::vector<std::string> names = list_of_bytes(paths);
  std::vector<parent::Collected> found;
  {
    const NoGil nogil;
    found = parent::collect_files(handle.container().root.get(), names, max,
                                  {deadline, -1, check_signals});
  }
  py::dict files, errors;
  size_t at = 0;
  for (py::handle path : paths) {
    const parent::Collected& one = found[at++];
    if (one.error == 0) files[path] = py::bytes(one.bytes);
    if (one.error != 0) errors[path] = py::make_tuple(one.error, one.hint);
  }
  return py::make_tuple(files, errors);
}

// None while it runs, else (returncode or None, limit or None); the cgroups are gone then.
py::object poll_handle(Handle& handle) {
  parent::Guarded& guarded = *handle.guarded;
  bool done;
  parent::Limit limit;
  {
    const NoGil nogil;
    // After a fork the lock may be held by a thread that isn't here.
    if (!guarded.container.owned()) return py::none();
    const std::lock_guard lock(guarded.lock);
    Launched& container = guarded.container;
    const bool before = container.reaped;
    done = container.owned() && container.reap(false);
    if (done && !before) {
      guarded.outcome.limit = limit_of_ended(container, guarded.outcome.limit);
      container.keep_usage();
      container.remove_leftovers();
    }
    limit = guarded.outcome.limit;
  }
  if (!done) return py::none();
  return py::make_tuple(or_none(guarded.container.returncode), parent::limit_name(limit));
}

// Waits for the pidfd without the lock, so that others may kill meanwhile; for a copy of it, since
// others may close meanwhile, and its number is another's then.
bool wait_handle(Handle& handle, Seconds timeout) {
  const int64_t deadline = deadline_in(timeout, parent::now_ns());
  const NoGil nogil;
  const parent::Fd ended = copy_to_wait_for(handle);
  if (!ended) return true;
  for (;;) {
    pollfd watched[] = {{ended.get(), POLLIN, 0}, {handle.given_up.get(), POLLIN, 0}};
    const int wait = parent::wait_ms(deadline);
    const int ready = ::poll(watched, 2, wait);
    if (ready > 0) return true;
    if (ready == 0 && wait == 0) return false;
    if (ready == 0 ? parent::gets_signals() : errno == EINTR) check_signals();
  }
}

namespace {

// Whether it ends within a while. Without a descriptor to wait by it is looked at again and again:
// whoever ends it mustn't fail for the lack of one, and leave it behind.
bool ends_within(Handle& handle, int milliseconds) {
  parent::Fd copy;
  try {
    copy = copy_to_wait_for(handle);
    if (!copy) return true;
  } catch (const parent::LaunchFailure&) {
    copy.reset();
  }
  const int64_t deadline = parent::now_ns() + milliseconds * parent::kMillisecond;
  if (copy) return parent::readable_within({deadline}, copy.get());
  pollfd watched{-1, POLLIN, 0};
  for (int looked = 0; looked < milliseconds; ++looked) {
    {
      const std::lock_guard lock(handle.guarded->lock);
      watched.fd = handle.container().pidfd.get();
      if (handle.container().given_up || watched.fd < 0 || ::poll(&watched, 1, 0) > 0) return true;
    }
    ::poll(nullptr, 0, 1);
  }
  return false;
}

}  // namespace

// Kills it and waits; false where it hangs in the kernel. What has no program of its own is told to
// end first.
bool end_handle(Handle& handle) {
  const NoGil nogil;
  if (!handle.container().owned()) return true;
  constexpr int kPatience = 300;  // milliseconds for its init, which may be frozen
  bool asked = false;
  {
    const std::lock_guard lock(handle.guarded->lock);
    asked = close_living(handle.container());
    if (!asked) handle.container().kill();
  }
  if (asked && !ends_within(handle, kPatience)) kill_now(handle);
  const int64_t killed_at = parent::now_ns();
  while (!ends_within(handle, 100)) {
    if (handle.container().hopeless(parent::now_ns() - killed_at)) return false;
  }
  if (!handle.container().command) return true;
  const std::lock_guard lock(handle.guarded->lock);
  return handle.container().reap(true);  // the last of its processes
}

// It was killed and can't die: nobody waits for it any more.
void give_up(Handle& handle) {
  const NoGil nogil;
  if (!handle.container().owned()) return;
  const std::lock_guard lock(handle.guarded->lock);
  handle.container().given_up = true;
  const uint64_t one = 1;
  if (handle.given_up && ::write(handle.given_up.get(), &one, sizeof one) < 0) return;  // told
}

bool send_signal(Handle& handle, int number) {
  return with_running(handle, [number](Launched& container) {
    if (number == SIGKILL) return container.kill();  // ends what is frozen, too
    container.signal(number);
  });
}

bool kill_handle(Handle& handle) {
  return with_running(handle, [](Launched& container) { container.kill(); });
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
  const NoGil nogil;
  Launched& container = handle.container();
  std::unique_lock lock(handle.guarded->lock, std::defer_lock);
  if (container.owned()) lock.lock();  // after a fork it may be held for ever
  if (container.owned() && !container.reaped) return;
  container.pidfd.reset();
  if (container.owned()) {  // its mounts are taken apart with them, for which nobody is to wait
    parent::close_by_reaper(std::move(container.root));
    parent::close_by_reaper(std::move(container.mount_namespace));
  }
  container.root.reset();
  container.mount_namespace.reset();
  container.living.reset();
  if (container.reaped) container.cgroup.reset();  // what is left of it are descriptors
}

py::tuple handle_usage(Handle& handle) {
  parent::CgroupUsage usage;
  parent::CgroupPresent present;
  if (handle.container().owned()) {
    const NoGil nogil;
    const std::lock_guard lock(handle.guarded->lock);
    Launched& container = handle.container();
    if (container.reaped) {
      usage = container.last_usage;
    } else if (container.cgroup) {
      usage = container.cgroup->usage();
      present = container.cgroup->present();
    }
  }
  return usage_of(handle.container(), usage) +
         py::make_tuple(or_none(present.memory), or_none(present.pids));
}

}  // namespace pyminicon::bind
