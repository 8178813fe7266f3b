#include "bind/containers/inside.h"

#include <memory>
#include <optional>
#include <string>

#include "base/kernel.h"
#include "bind/containers/run.h"
#include "bind/values/gil.h"
#include "parent/failure.h"
#include "parent/files/plain_file.h"
#include "parent/inside/collect.h"
#include "parent/inside/inner_terminal.h"
#include "parent/launch/memory_mode.h"
#include "parent/process/patience.h"

namespace pyminicon::bind {
namespace {

// Whether a file there can be read without a server that may never answer.
bool is_local(const std::string& directory) {
  const NoGil nogil;
  return parent::is_local(directory);
}

// None of one that a forked process has from its parent: whoever had its lock isn't there.
std::shared_ptr<parent::Fd> root_of(Handle& handle) {
  if (!handle.container().owned()) return std::make_shared<parent::Fd>();
  const std::lock_guard lock(handle.guarded->lock);
  return std::make_shared<parent::Fd>(fcntl(handle.container().root.get(), F_DUPFD_CLOEXEC, 3));
}

// The two sides of a terminal that has a name inside; None where none can be had.
py::object open_terminal(Handle& handle) {
  constexpr int64_t kPatience = 1000000000;  // ns
  const auto made = std::make_shared<parent::TerminalPair>();
  const parent::Patience patience{parent::now_ns() + kPatience, -1, check_signals};
  bool done = false;
  {
    const NoGil nogil;
    const std::shared_ptr<parent::Fd> root = root_of(handle);
    if (*root) {
      done = parent::done_within(
          patience, [root, made] { *made = parent::open_inner_terminal(root->get()); });
    }
  }
  if (!done || !made->inner) return py::none();
  return py::make_tuple(made->outer.release(), made->inner.release());
}

// A small regular file as the container sees it, its links followed inside alone; None where there
// is none. Whatever its file system does, no longer than `timeout`.
py::object read_inside(Handle& handle, const std::string& path, uint64_t most, Seconds timeout) {
  const auto bytes = std::make_shared<std::optional<std::string>>();
  const auto error = std::make_shared<int>(ENOENT);
  const parent::Patience patience{deadline_in(timeout, parent::now_ns()), -1, check_signals};
  bool done = true;
  {
    const NoGil nogil;
    const std::shared_ptr<parent::Fd> root = root_of(handle);
    if (*root) {
      done = parent::done_within(patience, [root, path, most, bytes, error] {
        const parent::Way way{root->get(), path, 0,
                              kernel::kResolveInRoot | kernel::kResolveNoMagiclinks};
        const parent::Fd file = parent::open_plain(way);
        *error = errno;
        if (!file) return;
        const bool made_up = parent::is_made_up(file.get());
        if (!made_up) *bytes = parent::read_at_most(file.get(), most);
        *error = made_up ? EINVAL : errno;
      });
    }
  }
  if (done && *bytes) return py::bytes(**bytes);
  if (done && (*error == ENOENT || *error == ENOTDIR)) return py::none();
  errno = done ? *error : ETIMEDOUT;
  PyErr_SetFromErrno(PyExc_OSError);
  throw py::error_already_set();
}

}  // namespace

void bind_inside(py::class_<Handle, Released<Handle>>& handle) {
  handle.def_static("is_local", &is_local)
      .def("read_inside", &read_inside)
      .def("open_terminal", &open_terminal);
}

}  // namespace pyminicon::bind
