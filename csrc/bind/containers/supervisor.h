// The conversation with a running program, for whoever waits in Python.
#pragma once

#include <pybind11/pybind11.h>

namespace pyminicon::bind {

void bind_supervisor(pybind11::module_& module);

}  // namespace pyminicon::bind
