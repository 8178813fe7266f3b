#include "bind/exchange.h"

#include "bind/from_python.h"
#include "bind/to_python.h"
#include "parent/supervise/exchange.h"

namespace pyminicon::bind {
namespace {

namespace py = pybind11;

// pyminicon/_core.pyi says what each does.
class Exchange {
 public:
  Exchange(py::bytes input, MostOutput most, bool trim)
      : input_(std::move(input)),
        exchange_(static_cast<std::string_view>(input_), most.value_or(UINT64_MAX), trim) {}
  bool feed(int fd) { return exchange_.feed(fd); }
  bool read(int which, int fd) { return exchange_.read(which, fd); }
  void drain(int which, int fd) { exchange_.drain(which, fd); }
  bool full() const { return exchange_.full(); }
  py::object output(int which) const { return bytes_from(exchange_.of(which)); }
  uint64_t dropped(int which) const { return exchange_.of(which).dropped(); }

 private:
  py::bytes input_;
  parent::Exchange exchange_;
};

}  // namespace

void bind_exchange(py::module_& module) {
  py::class_<Exchange>(module, "Exchange")
      .def(py::init<py::bytes, MostOutput, bool>())
      .def("feed", &Exchange::feed)
      .def("read", &Exchange::read)
      .def("drain", &Exchange::drain)
      .def_property_readonly("full", &Exchange::full)
      .def("output", &Exchange::output)
      .def("dropped", &Exchange::dropped);
}

}  // namespace pyminicon::bind
