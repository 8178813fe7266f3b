// A template's warm pool as Python holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "bind/containers/handle.h"
#include "bind/values/request.h"
#include "parent/pool/warm_pool.h"

namespace pyminicon::bind {

struct TemplateCore {
  TemplateCore(std::shared_ptr<parent::PlanSpec> the_spec, size_t size);

  std::shared_ptr<parent::PlanSpec> spec;
  parent::WarmPool warm_pool;
};

Outcome template_run(TemplateCore& core, const Request& request);
Released<Handle> template_start(TemplateCore& core, const Request& request);

}  // namespace pyminicon::bind
