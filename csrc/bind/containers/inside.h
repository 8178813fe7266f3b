// What is taken from inside a container by its root: small files, terminals.
#pragma once

#include "bind/containers/handle.h"

namespace pyminicon::bind {

void bind_inside(py::class_<Handle, Released<Handle>>& handle);

}  // namespace pyminicon::bind
