#include "bind/archive.h"

#include "archive/error.h"
#include "archive/extractor.h"
#include "bind/values/gil.h"

namespace pyminicon::bind {
namespace {

namespace py = pybind11;
using archive::Extractor;

// What is wrong with the archive, or None. It may hold a stranger's bytes; the caller makes text of
// it.
template <typename Work>
py::object complaint_of(Work work) {
  std::string message;
  bool failed = false;
  {
    const NoGil nogil;
    try {
      work();
    } catch (const archive::ArchiveError& error) {
      message = error.what();
      failed = true;
    }
  }
  return failed ? py::object(py::bytes(message)) : py::none();
}

py::object feed(Extractor& extractor, const py::bytes& data) {
  const std::string_view view = data;
  return complaint_of(
      [&] { extractor.feed({reinterpret_cast<const unsigned char*>(view.data()), view.size()}); });
}

py::object finish(Extractor& extractor) {
  return complaint_of([&] { extractor.finish(); });
}

py::tuple left_out(const Extractor& extractor) {
  const auto& tree = extractor.tree();
  return py::make_tuple(tree.devices_left_out(), tree.owners_left_out(),
                        tree.attributes_left_out());
}

}  // namespace

void bind_archive(py::module_& module) {
  py::class_<Extractor>(module, "Extractor")
      .def(py::init([](int root, bool own, uint32_t depth, uint32_t name, uint64_t entries) {
             return new Extractor(root, archive::Rules{own, depth, name}, entries);
           }),
           py::arg("root"), py::kw_only(), py::arg("own"), py::arg("max_depth"),
           py::arg("max_name"), py::arg("max_entries"))
      .def("feed", &feed)
      .def("finish", &finish)
      .def_property_readonly("complete", &Extractor::complete)
      .def_property_readonly("has_root",
                             [](const Extractor& self) { return self.tree().has_root(); })
      .def_property_readonly("entries", &Extractor::entries)
      .def_property_readonly("left_out", &left_out);
}

}  // namespace pyminicon::bind
