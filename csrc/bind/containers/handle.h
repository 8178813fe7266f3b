// A running container as Python holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bind/values/from_python.h"
#include "bind/values/without_gil.h"
#include "parent/launch/launch.h"
#include "parent/supervise/limit_thread.h"
#include "parent/supervise/supervise.h"

namespace pyminicon::bind {

namespace py = pybind11;

// A running container, shared with the limit thread where it has limits.
struct Handle {
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  // Whoever lets go of it ends it; the limit thread, which may hold it too, only looks on.
  ~Handle() {
    if (guarded.use_count() < 2 || !container().owned()) return;
    const std::lock_guard lock(guarded->lock);
    container().kill();
  }

  std::string id;  // the container's own
  std::shared_ptr<parent::Guarded> guarded = std::make_shared<parent::Guarded>();
  parent::Streams streams;
  parent::Fd given_up;  // an eventfd, made by the first who waits: readable once nobody need wait

  parent::Launched& container() const { return guarded->container; }
};

// The ends of pipes that are the container's; closed here once it has its own copies.
struct ChildEnds {
  parent::Fd owned[3];
};

// Turns what Python says of stdin, stdout and stderr into descriptors and pipes.
void open_stdio(const std::array<int, 3>& wanted, parent::LaunchOptions& options, ChildEnds& ends,
                parent::Streams& streams);

// The limits hold without anybody waiting.
void hold_limits(Handle& handle, Seconds wall_time, double cpu_time, MostOutput max_output);

// It has begun, or a command in it has: unless another comes soon a runner is made for the next
// one. Touches nothing of Python's, and waits for nobody.
void await_commands(Handle& container);

// Throws where the container, which was killed for memory, has less than any program needs.
void insist_on_room(const Handle& handle, const std::string& program);

// ({path: bytes}, {path: (errno, what it means here)}), or None where nothing was asked for.
py::object collected(const Handle& handle, const py::object& paths, uint64_t max, int64_t deadline);

// What Python calls on it; pyminicon/_core.pyi says what each does.
py::object poll_handle(Handle& handle);
bool wait_handle(Handle& handle, Seconds timeout);
bool end_handle(Handle& handle);
void give_up(Handle& handle);
bool send_signal(Handle& handle, int number);
bool kill_handle(Handle& handle);
bool freeze(Handle& handle, bool frozen);
bool update(Handle& handle, const py::iterable& changes);
void release(Handle& handle);
py::tuple handle_usage(Handle& handle);

}  // namespace pyminicon::bind
