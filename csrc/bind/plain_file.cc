#include "bind/plain_file.h"

#include <fcntl.h>

#include <cerrno>

#include "parent/process/plain_file.h"

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
    const py::gil_scoped_release nogil;
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
    const py::gil_scoped_release nogil;
    bytes = parent::read_in_root(image, name, most);
    error = errno;
  }
  if (bytes) return py::bytes(*bytes);
  if (error != ENOENT && error != ENOTDIR) raise(error, path);
  return py::none();
}

}  // namespace pyminicon::bind
