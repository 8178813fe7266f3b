// Commands in a container that takes them, as Python asks for them.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "bind/containers/handle.h"

namespace pyminicon::bind {

// Adds to the class what is said to a container whose init takes commands.
void bind_commands(py::module_& module, py::class_<Handle, Released<Handle>>& handle);

}  // namespace pyminicon::bind
