// A template's warm pool as Python holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "bind/handle.h"
#include "parent/pool/warm_pool.h"

namespace pyminicon::bind {

struct TemplateCore {
  TemplateCore(std::shared_ptr<parent::PlanSpec> the_spec, size_t size);

  std::shared_ptr<parent::PlanSpec> spec;
  parent::WarmPool warm_pool;
};

// run and start of a template. `what`: (candidates, argv, env, cwd, files, uid, gid).
py::tuple template_run(TemplateCore& core, const py::tuple& what, const py::tuple& stdio,
                       const std::vector<int>& pass, bool trace, const py::object& input,
                       Seconds timeout, Seconds wall_time, double cpu_time, uint64_t max_output,
                       const py::object& collect, uint64_t collect_max, int cancel, bool trim);
Released<Handle> template_start(TemplateCore& core, const py::tuple& what, const py::tuple& stdio,
                                const std::vector<int>& pass, Seconds wall_time, double cpu_time,
                                uint64_t max_output, bool trace, int cancel, Seconds patience);

}  // namespace pyminicon::bind
