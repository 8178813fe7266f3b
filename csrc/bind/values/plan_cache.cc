#include "bind/values/plan_cache.h"

#include <unistd.h>

#include <memory>
#include <string_view>

#include "bind/values/gil.h"
#include "parent/plan/spec.h"

namespace pyminicon::bind {
namespace {

constexpr size_t kMost = 16;

void add(std::string& key, char type, std::string_view bytes) {
  const size_t size = bytes.size();
  key += type;
  key.append(reinterpret_cast<const char*>(&size), sizeof size);
  key += bytes;
}

// The ids on which a plan depends: whether it needs a user namespace, and what it maps there.
std::string own_ids() {
  uid_t ids[4] = {};
  getresuid(&ids[0], &ids[1], &ids[2]);
  ids[3] = getegid();
  return {reinterpret_cast<const char*>(ids), sizeof ids};
}

bool add_text(std::string& key, PyObject* text) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text, &size);
  if (bytes == nullptr) {  // lone surrogates
    PyErr_Clear();
    return false;
  }
  add(key, 's', {bytes, static_cast<size_t>(size)});
  return true;
}

// A value with its type, since True == 1; false for one that could be another thing next time.
bool add_value(std::string& key, PyObject* value) {
  if (value == Py_None || value == Py_True || value == Py_False) {
    add(key, value == Py_None ? 'n' : value == Py_True ? 't' : 'f', {});
    return true;
  }
  if (PyUnicode_CheckExact(value)) return add_text(key, value);
  if (!PyBytes_CheckExact(value)) return false;
  add(key, 'b', {PyBytes_AS_STRING(value), static_cast<size_t>(PyBytes_GET_SIZE(value))});
  return true;
}

bool contains(const py::object& set, PyObject* name) {
  const int found = PySet_Contains(set.ptr(), name);
  if (found < 0) throw py::error_already_set();
  return found == 1;
}

// (the core's plan, the plan), or nothing. Safe from whoever changes the dict at the same time.
py::tuple item_of(const py::dict& kept, const py::bytes& key) {
  PyObject* item = nullptr;
#if PY_VERSION_HEX >= 0x030D0000
  PyDict_GetItemRef(kept.ptr(), key.ptr(), &item);
#else
  Py_XINCREF(item = PyDict_GetItemWithError(kept.ptr(), key.ptr()));
#endif
  if (item == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::tuple>(item);
}

// Only a directory is known again, and only by a name that means the same wherever we are.
bool has_own_place(const py::dict& options) {
  PyObject* const image = PyDict_GetItemString(options.ptr(), "image");
  return image != nullptr && PyUnicode_CheckExact(image) && PyUnicode_GET_LENGTH(image) > 0 &&
         PyUnicode_READ_CHAR(image, 0) == '/';
}

}  // namespace

bool PlanCache::read(const py::dict& options, std::string& key, py::dict& rest) const {
  bool limited = false;
  for (const auto& [name, value] : options) {
    const bool limit = contains(limits_, name.ptr());
    if (limit || contains(each_run_, name.ptr())) {
      limited |= limit && !value.is_none() && !value.is(py::bool_(false));
      rest[name] = value;
    } else if (!PyUnicode_Check(name.ptr()) || !add_text(key, name.ptr()) ||
               !add_value(key, value.ptr())) {
      return false;
    }
  }
  key += limited ? 'l' : '-';
  return true;
}

py::object PlanCache::find(const py::dict& options, bool at_once) const {
  if (!has_own_place(options)) return py::none();
  std::string key = own_ids();
  py::dict rest;
  if (!read(options, key, rest)) return py::none();
  const py::bytes name(key);
  const auto entry = item_of(kept_, name);
  if (!entry) return name;
  const auto spec = entry[0].cast<std::shared_ptr<parent::PlanSpec>>();
  bool stands = spec->fingerprints && (spec->all_local || !at_once);
  if (stands && at_once) {
    stands = parent::all_stand_at_once(*spec->fingerprints);
  } else if (stands) {
    const NoGil nogil;  // the image may lie where an answer takes its time
    stands = parent::all_stand(*spec->fingerprints);
  }
  if (!stands) return name;
  return py::make_tuple(entry[1], rest);
}

void PlanCache::keep(const py::bytes& key, const py::object& plan) {
  const std::string ids = own_ids();
  if (static_cast<std::string_view>(key).substr(0, ids.size()) != ids) return;  // changed meanwhile
  kept_.attr("pop")(key, py::none());
  kept_[key] = py::make_tuple(plan.attr("core"), plan);
  const py::list keys(kept_);
  for (size_t i = 0; i + kMost < keys.size(); ++i) kept_.attr("pop")(keys[i], py::none());
}

}  // namespace pyminicon::bind
