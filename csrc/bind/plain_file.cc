#include "bind/plain_file.h"

#include <fcntl.h>

#include <cerrno>

#include "bind/values/gil.h"
#include "parent/files/plain_file.h"
#include "parent/plan/hidden.h"

namespace pyminicon::bind {
namespace {

[[noreturn]] void raise(int error, py::handle path) {
  errno = error;
  PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path.ptr());
  throw py::error_already_set();
}

std::string name_of(py::handle path) {
  std::string name = bytes_of(path);
  if (name.find('\0') != std::string::npos) throw py::value_error("embedded null byte");
  return name;
}

}  // namespace

int open_plain(py::handle path, bool follow) {
  const parent::Way way{AT_FDCWD, name_of(path), follow ? 0ULL : O_NOFOLLOW, 0};
  parent::Fd file;
  int error = 0;
  {
    const NoGil nogil;
    file = parent::open_plain(way);
    error = errno;
  }
  if (!file) raise(error, path);
  return file.release();
}

py::object read_beneath(py::handle root, py::handle path, uint64_t most) {
  const std::string image = name_of(root), name = name_of(path);
  std::optional<std::string> bytes;
  int error = 0;
  {
    const NoGil nogil;
    bytes = parent::read_in_root(image, name, most);
    error = errno;
  }
  if (bytes) return py::bytes(*bytes);
  if (error != ENOENT && error != ENOTDIR) raise(error, path);
  return py::none();
}

namespace {

// (path, whether it is hidden, mode, uid, gid), a directory that is not before what is in it.
py::list rows_of(const parent::HiddenSet& set) {
  py::list rows;
  for (const parent::Hidden& one : set.rows()) {
    const auto path = py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefaultAndSize(
        one.path.data(), static_cast<Py_ssize_t>(one.path.size())));
    rows.append(py::make_tuple(path, one.whole, one.mode, one.uid, one.gid));
  }
  return rows;
}

}  // namespace

void bind_hidden(py::module_& module) {
  using parent::HiddenSet;
  py::class_<HiddenSet>(module, "Hidden")
      .def(py::init([](py::handle root, py::handle shown, HiddenSet* before, bool watched) {
        const std::string top = name_of(root);
        const std::vector<std::string> names = list_of_bytes(shown);
        const NoGil nogil;
        return std::make_unique<HiddenSet>(top, names, watched, before);
      }))
      .def("holds", &HiddenSet::holds, py::call_guard<NoGil>())
      .def_property_readonly("watched", &HiddenSet::watched)
      .def_property_readonly("rows", &rows_of);
}

}  // namespace pyminicon::bind
