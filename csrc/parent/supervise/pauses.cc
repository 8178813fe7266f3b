#include "parent/supervise/pauses.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <thread>
#include <vector>

#include "parent/failure.h"
#include "parent/launch/command.h"
#include "parent/process/clone.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {
namespace {

class Pauses {
 public:
  void expect(const std::shared_ptr<Guarded>& container) {
    const int64_t due = now_ns() + kPause;
    const std::lock_guard lock(lock_);
    for (Expected& one : expected_) {
      if (one.which != container.get()) continue;
      one.due = due;
      return;
    }
    expected_.push_back({container.get(), container, due});
    if (runs_) return;
    try {
      begin_thread([this] { run(); });
      runs_ = true;
    } catch (const LaunchFailure&) {  // there is none to be had: commands wait
      expected_.clear();
    }
  }

  const uint64_t generation = fork_generation();

 private:
  static constexpr int64_t kPause = 10 * kMillisecond;
  struct Expected {
    const Guarded* which;  // to be compared alone
    std::weak_ptr<Guarded> container;
    int64_t due;
  };

  void run() {
    while (const int64_t wait = turn()) std::this_thread::sleep_for(std::chrono::nanoseconds(wait));
  }

  // How long it is until there may be something to do; 0: there is nothing left, and no thread.
  int64_t turn() {
    std::shared_ptr<Guarded> paused;
    {
      const std::lock_guard lock(lock_);
      const auto next =
          std::min_element(expected_.begin(), expected_.end(),
                           [](const Expected& a, const Expected& b) { return a.due < b.due; });
      runs_ = next != expected_.end();
      if (!runs_) return 0;
      if (const int64_t left = next->due - now_ns(); left > 0) return left;
      paused = next->container.lock();
      expected_.erase(next);
    }
    if (paused) make_one(*paused);
    return 1;
  }

  static void make_one(Guarded& container) {
    const std::lock_guard lock(container.lock);
    try {
      make_runner(container.container);
    } catch (const std::bad_alloc&) {  // the next command waits
    }
  }

  std::mutex lock_;
  std::vector<Expected> expected_;
  bool runs_ = false;
};

std::atomic<Pauses*> known_pauses{nullptr};

}  // namespace

void expect_pause(const std::shared_ptr<Guarded>& container) {
  of_this_process(known_pauses).expect(container);
}

}  // namespace pyminicon::parent
