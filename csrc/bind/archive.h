// The extractor of archives for Python (csrc/archive); prose is in pyminicon/_core.pyi.
#pragma once

#include <pybind11/pybind11.h>

namespace pyminicon::bind {

void bind_archive(pybind11::module_& module);

}  // namespace pyminicon::bind
