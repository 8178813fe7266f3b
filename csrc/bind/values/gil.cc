// Compiled without exceptions: pthread_cleanup_push is C's then, which needs no unwinding of C++.
#include "bind/values/gil.h"

#include <pthread.h>
#include <unistd.h>

namespace pyminicon::bind {
namespace {

[[noreturn]] void sleep_for_ever(void*) {
  for (;;) pause();
}

thread_local PyThreadState* let_go_of = nullptr;

}  // namespace

// At the interpreter's end Python (before 3.14) ends every other thread that wants the lock by
// pthread_exit, which unwinds like an exception: out of a destructor that is std::terminate,
// further up it would destroy Python objects without the lock, and with a libgcc of our own in this
// module it is an abort anyhow. Such a thread sleeps instead, until the process has ended a moment
// later.
static void take_gil(PyThreadState* state) {
  pthread_cleanup_push(sleep_for_ever, nullptr);
  PyEval_RestoreThread(state);
  pthread_cleanup_pop(0);
}

NoGil::NoGil() : before_(let_go_of) { let_go_of = PyEval_SaveThread(); }

NoGil::~NoGil() {
  PyThreadState* const mine = let_go_of;
  let_go_of = before_;
  take_gil(mine);
}

Gil::Gil() : mine_(let_go_of) {
  let_go_of = nullptr;
  if (mine_ != nullptr) take_gil(mine_);
}

Gil::~Gil() {
  if (mine_ != nullptr) let_go_of = PyEval_SaveThread();
}

}  // namespace pyminicon::bind
