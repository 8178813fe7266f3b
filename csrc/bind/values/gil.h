// The interpreter's lock.
#pragma once

#include <Python.h>

namespace pyminicon::bind {

// Let go for the length of a scope, by whoever has it.
class NoGil {
 public:
  NoGil();
  ~NoGil();
  NoGil(const NoGil&) = delete;
  NoGil& operator=(const NoGil&) = delete;

 private:
  PyThreadState* before_;
};

// Taken for the length of a scope, in a thread that has let go of it; else nothing.
class Gil {
 public:
  Gil();
  ~Gil();
  Gil(const Gil&) = delete;
  Gil& operator=(const Gil&) = delete;

 private:
  PyThreadState* mine_;
};

}  // namespace pyminicon::bind
