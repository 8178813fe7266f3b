// The extractor for Python: a module of its own, which the launch path never loads. Prose and
// signatures are in pyminicon/_unpack.pyi.
#include <pybind11/pybind11.h>

#include "archive/error.h"
#include "archive/extractor.h"
#include "bind/gil.h"

namespace py = pybind11;
using pyminicon::archive::ArchiveError;
using pyminicon::archive::Extractor;
using pyminicon::archive::Rules;

namespace {

// A message may hold a stranger's bytes; the caller makes text of it.
template <typename Work>
py::object guarded(Work work) {
  std::string message;
  bool failed = false;
  {
    const pyminicon::bind::NoGil released;
    try {
      work();
    } catch (const ArchiveError& error) {
      message = error.what();
      failed = true;
    }
  }
  if (failed) return py::bytes(message);
  return py::none();
}

}  // namespace

PYBIND11_MODULE(_unpack, m, py::mod_gil_not_used(),
                py::multiple_interpreters::per_interpreter_gil()) {
  py::class_<Extractor>(m, "Extractor")
      .def(py::init([](int root, bool own, uint32_t depth, uint32_t name, uint64_t entries) {
             return new Extractor(root, Rules{own, depth, name}, entries);
           }),
           py::arg("root"), py::kw_only(), py::arg("own"), py::arg("max_depth"),
           py::arg("max_name"), py::arg("max_entries"))
      .def("feed",
           [](Extractor& self, const py::bytes& data) {
             const std::string_view view = data;
             return guarded([&] {
               self.feed({reinterpret_cast<const unsigned char*>(view.data()), view.size()});
             });
           })
      .def("finish", [](Extractor& self) { return guarded([&] { self.finish(); }); })
      .def_property_readonly("complete", &Extractor::complete)
      .def_property_readonly("has_root",
                             [](const Extractor& self) { return self.tree().has_root(); })
      .def_property_readonly("entries", &Extractor::entries)
      .def_property_readonly("left_out", [](const Extractor& self) {
        const auto& tree = self.tree();
        return py::make_tuple(tree.devices_left_out(), tree.owners_left_out(),
                              tree.attributes_left_out());
      });
}
