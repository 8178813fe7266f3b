#include "parent/supervise/limit_thread.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "parent/failure.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {
namespace {

// A container that is shared with whoever started it, and what is done about it.
struct Limited {
  Limited(std::shared_ptr<Guarded> whose, const RunLimits& limits, Streams counted)
      : guarded(std::move(whose)),
        streams(std::move(counted)),
        machine(container, streams, {}, limits, guarded->outcome) {}
  std::shared_ptr<Guarded> guarded;
  Streams streams;
  Contained container{guarded->container, Contained::kLooksOn};
  Supervisor machine;
};

class LimitThread {
 public:
  void add(std::unique_ptr<Limited> one) {
    const std::lock_guard lock(lock_);
    if (!runs_) begin();
    arriving_.push_back(std::move(one));
    const uint64_t woken = 1;
    if (::write(wake_.get(), &woken, sizeof woken) < 0) return;  // full: it is awake anyway
  }

  const uint64_t generation = fork_generation();

 private:
  void begin() {
    Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) throw LaunchFailure(errno, Stage::kPrepare, "eventfd");
    wake_.keep(std::move(wake));
    begin_thread([this] { run(); });
    runs_ = true;
  }

  void run() {
    constexpr timespec kMoment{0, 10000000};
    for (;;) {
      try {
        turn();
      } catch (const std::bad_alloc&) {  // there may be some in a moment
        nanosleep(&kMoment, nullptr);
      }
    }
  }

  void turn() {
    take_arriving();
    int64_t next = kNever;
    polls_.assign(1, {wake_.get(), POLLIN, 0});
    for (const auto& one : watched_) {
      const std::lock_guard lock(one->guarded->lock);
      one->machine.add_to(polls_);
      next = std::min(next, one->machine.gone() ? 0 : one->machine.next());
    }
    poll(polls_.data(), polls_.size(), wait_ms(next));
    uint64_t count;
    while (polls_[0].revents != 0 && ::read(wake_.get(), &count, sizeof count) > 0) {
    }
    const pollfd* answers = polls_.data() + 1;
    for (const auto& one : watched_) {
      const std::lock_guard lock(one->guarded->lock);
      answers = one->machine.step(answers);
    }
    std::erase_if(watched_, [](const auto& one) { return one->machine.gone(); });
  }

  void take_arriving() {
    const std::lock_guard lock(lock_);
    watched_.reserve(watched_.size() + arriving_.size());  // all of them or none
    for (auto& one : arriving_) watched_.push_back(std::move(one));
    arriving_.clear();
  }

  KeptFd wake_;
  std::mutex lock_;
  std::vector<std::unique_ptr<Limited>> arriving_;  // under lock_
  std::vector<std::unique_ptr<Limited>> watched_;   // the thread's own
  std::vector<pollfd> polls_;
  bool runs_ = false;  // under lock_
};

std::atomic<LimitThread*> known_limit_thread{nullptr};

}  // namespace

void watch_over(const std::shared_ptr<Guarded>& guarded, const RunLimits& limits, Streams counted) {
  const std::optional<Cgroup>& cgroup = guarded->container.cgroup;
  const bool tells = memory_event(cgroup ? &*cgroup : nullptr).fd >= 0;
  if (!tells && limits.next() == kNever && !counted.output && !counted.error) return;
  of_this_process(known_limit_thread)
      .add(std::make_unique<Limited>(guarded, limits, std::move(counted)));
}

}  // namespace pyminicon::parent
