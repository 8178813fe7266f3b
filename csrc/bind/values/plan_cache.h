// The last few plans of this interpreter, for whoever starts the like again.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace pyminicon::bind {

namespace py = pybind11;

// From what a container is (the options but those of each run) to its plan. Whoever finds one has
// looked at everything that it was made from: the ids of the process, which are in the key, and the
// plan's fingerprints. Options with values that could change behind our back are not known at all.
//
// There is no lock: Python's dicts have their own, and nothing here is held over a fork.
class PlanCache {
 public:
  // `each_run`: the options that no plan depends on; `limits`: those whose values none depends on.
  PlanCache(py::frozenset each_run, py::frozenset limits)
      : each_run_(std::move(each_run)), limits_(std::move(limits)) {}

  // (plan, the options that aren't in it), or the key to keep a new one by, or None where none can
  // be. `at_once`: without asking a file system that may not answer, and so not always found.
  py::object find(const py::dict& options, bool at_once) const;
  void keep(const py::bytes& key, const py::object& plan);
  size_t size() const { return kept_.size(); }

 private:
  bool read(const py::dict& options, std::string& key, py::dict& rest) const;
  py::object each_run_, limits_;
  py::dict kept_;  // the oldest first
};

}  // namespace pyminicon::bind
