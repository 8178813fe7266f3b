#include "parent/process/thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <thread>
#include <utility>

#include "parent/failure.h"

namespace pyminicon::parent {
namespace {

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

void begin_thread(std::function<void()> life) {
  const SignalsBlocked blocked;
  try {
    std::thread(std::move(life)).detach();
  } catch (const std::system_error& error) {
    throw LaunchFailure(error.code().value(), Stage::kPrepare, "thread");
  }
}

}  // namespace pyminicon::parent
