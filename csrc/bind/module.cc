// The module pyminicon._core. This folder is the only one that sees Python; prose and signatures
// are in pyminicon/_core.pyi.
#include <cerrno>
#include <system_error>

#include "bind/archive.h"
#include "bind/containers/beside.h"
#include "bind/containers/command.h"
#include "bind/containers/handle.h"
#include "bind/containers/inside.h"
#include "bind/containers/network.h"
#include "bind/containers/run.h"
#include "bind/containers/supervisor.h"
#include "bind/containers/template.h"
#include "bind/plain_file.h"
#include "bind/values/from_python.h"
#include "bind/values/plan_cache.h"
#include "bind/values/request.h"
#include "bind/values/to_python.h"
#include "parent/launch/memory_mode.h"
#include "parent/process/helper_image.h"
#include "parent/process/launcher.h"
#include "parent/process/standing.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, module, py::mod_gil_not_used(),
                py::multiple_interpreters::per_interpreter_gil()) {
  using namespace pyminicon;
  using namespace pyminicon::bind;
  using parent::PlanSpec;
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const parent::LaunchFailure& failure) {
      raise_launch_error(failure);
    } catch (const parent::SetupTimeout&) {
      raise_launch_error({ETIMEDOUT, Stage::kHelper, ""});
    } catch (const std::system_error& error) {
      raise_launch_error({error.code().value(), Stage::kPrepare, error.what()});
    }
  });
  module.def("landlock_version", &parent::landlock_version);
  py::class_<PlanSpec, std::shared_ptr<PlanSpec>>(module, "Plan")
      .def(py::init(&make_plan))
      .def("limited", &limited)
      .def_property_readonly("may_hang", &PlanSpec::may_hang);
  py::class_<PlanCache>(module, "PlanCache")
      .def(py::init<py::frozenset, py::frozenset>())
      .def("find", &PlanCache::find)
      .def("keep", &PlanCache::keep)
      .def("__len__", &PlanCache::size);
  bind_requests(module);
  bind_supervisor(module);
  py::class_<Handle, Released<Handle>> handle(module, "Handle");
  handle.def_property_readonly("pid", [](const Handle& h) { return h.container().pid; })
      .def_property_readonly("pidfd", [](const Handle& h) { return h.container().pidfd.get(); })
      .def_property_readonly("id", [](const Handle& h) { return h.id; })
      .def_property_readonly("owned", [](const Handle& h) { return h.container().owned(); })
      .def_property_readonly("startup", [](const Handle& h) { return startup_of(h.container()); })
      .def_property_readonly("trace", [](const Handle& h) { return trace_of(h.container()); })
      .def("take_stream",
           [](Handle& h, int which) {
             parent::Fd* fds[3] = {&h.streams.input, &h.streams.output, &h.streams.error};
             return fds[which]->release();
           })
      .def("poll", &poll_handle)
      .def("over",
           [](Handle& h) {
             const parent::Launched& one = h.container();
             return !one.owned() || !one.command || !poll_handle(h).is_none();
           })
      .def("wait", &wait_handle)
      .def("send_signal", &send_signal)
      .def("kill", &kill_handle)
      .def("end", &end_handle)
      .def("hopeless",
           [](Handle& h, double killed_for) {
             const NoGil nogil;
             return h.container().hopeless(static_cast<int64_t>(killed_for * 1e9));
           })
      .def("give_up", &give_up)
      .def("insist_on_room",
           [](const Handle& h, py::handle program) { insist_on_room(h, bytes_of(program)); })
      .def("usage", &handle_usage)
      .def("release", &release)
      .def("freeze", &freeze)
      .def("update", &update)
      .def("collect", [](const Handle& h, const py::object& paths, uint64_t max, Seconds timeout) {
        return collected(h, paths, max, deadline_in(timeout, parent::now_ns()));
      });
  bind_commands(module, handle);
  bind_inside(handle);
  bind_network(module, handle);
  module.def("is_root", &parent::is_root);
  module.def("start", &start);
  py::class_<Pending, Released<Pending>>(module, "Pending")
      .def_property_readonly("number", &Pending::number)
      .def_property_readonly("over", &Pending::over)
      .def("withdraw", &Pending::withdraw)
      .def("result", &Pending::result);
  py::class_<Launches, Released<Launches>>(module, "Launches")
      .def(py::init())
      .def_property_readonly("fd", &Launches::fd)
      .def("begin", &Launches::begin)
      .def("finished", &Launches::finished)
      .def("close", &Launches::close);
  py::class_<TemplateCore, Released<TemplateCore>>(module, "Template")
      .def(py::init<std::shared_ptr<PlanSpec>, size_t>())
      .def_property_readonly("ready",
                             [](const TemplateCore& core) { return core.warm_pool.ready(); })
      .def_property_readonly("owned",
                             [](const TemplateCore& core) { return core.warm_pool.owned(); })
      .def("close",
           [](TemplateCore& core) {
             const NoGil nogil;
             core.warm_pool.close();
           })
      .def("run", &template_run)
      .def("start", &template_start);
  module.def("run", &run);
  module.def("open_plain", &open_plain);
  module.def("read_beneath", &read_beneath);
  module.def("helper", [] { return parent::helper_image().release(); });
  module.def("launcher", [] {
    const NoGil nogil;
    return parent::launcher();
  });
  bind_archive(module);
  bind_hidden(module);
  py::list stages;
  for (uint32_t i = 0; i < static_cast<uint32_t>(Stage::kCount); ++i) {
    stages.append(stage_name(static_cast<Stage>(i)));
  }
  module.attr("STAGES") = py::tuple(stages);
  module.attr("ALL_GROUPS") = kAllGroups;
  module.attr("UNPACED") = kUnpaced;
}
