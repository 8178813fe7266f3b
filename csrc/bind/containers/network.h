// Sockets in a container's network, as Python asks for them.
#pragma once

#include <pybind11/pybind11.h>

#include "bind/containers/handle.h"

namespace pyminicon::bind {

void bind_network(py::module_& module, py::class_<Handle, Released<Handle>>& handle);

}  // namespace pyminicon::bind
