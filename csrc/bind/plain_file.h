// Reading files that strangers may have put there (parent/files/plain_file.h).
#pragma once

#include "bind/values/from_python.h"

namespace pyminicon::bind {

// A descriptor of the regular file `path`; raises OSError.
int open_plain(py::handle path, bool follow);

// The bytes of a regular file beneath `root`, None where nothing is there; raises OSError.
py::object read_beneath(py::handle root, py::handle path, uint64_t most);

// What a container isn't shown of a directory of this machine (parent/plan/hidden.h).
void bind_hidden(py::module_& module);

}  // namespace pyminicon::bind
