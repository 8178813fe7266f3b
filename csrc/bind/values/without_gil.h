// What is let go of without the interpreter's lock.
//
// To let go of a container, or of a warm pool, is to end it, and the kernel may take seconds for
// that (a mount whose server doesn't answer). Python's other threads go on meanwhile.
#pragma once

#include <memory>

#include "bind/values/gil.h"

namespace pyminicon::bind {

// Called by whoever has the lock.
struct WithoutGil {
  template <typename T>
  void operator()(T* object) const {
    const NoGil nogil;
    delete object;
  }
};

template <typename T>
using Released = std::unique_ptr<T, WithoutGil>;

}  // namespace pyminicon::bind
