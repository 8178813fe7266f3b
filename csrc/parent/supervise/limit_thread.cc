#include "parent/supervise/limit_thread.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <new>
#include <thread>
#include <vector>

#include "parent/failure.h"
#include "parent/process/clone.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {
namespace {

constexpr size_t kPiece = 1 << 16;

// Where nothing more may pass: a byte that waits is one too many. False at the end of the stream.
bool stop_at_a_byte(Guarded& guarded, const Relay& relay, bool ended) {
  pollfd from{relay.from.get(), POLLIN, 0};
  poll(&from, 1, 0);
  if ((from.revents & POLLIN) == 0) return from.revents == 0 && !ended;
  if (guarded.limit == Limit::kNone) guarded.limit = Limit::kOutput;
  guarded.container.kill();
  return false;
}

// Moves what is there without copying it. False when nothing more will come.
bool relay(Guarded& guarded, Relay& relay, bool ended) {
  uint64_t& room = guarded.output;
  if (room == 0) return stop_at_a_byte(guarded, relay, ended);
  int waiting = 0;
  if (ioctl(relay.from.get(), FIONREAD, &waiting) < 0) waiting = 0;
  const size_t want = std::min<uint64_t>(kPiece, room);
  const ssize_t moved = splice(relay.from.get(), nullptr, relay.to.get(), nullptr, want,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (moved > 0) {
    room -= static_cast<uint64_t>(moved);
    return true;
  }
  // EAGAIN after the end: another process may hold the write side; nothing of the container will
  // come.
  if (moved < 0 && (errno == EAGAIN || errno == EINTR)) return !(ended && waiting == 0);
  return false;
}

class LimitThread {
 public:
  LimitThread() {
    Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) throw LaunchFailure(errno, Stage::kPrepare, "eventfd");
    wake_.keep(std::move(wake));
    begin_thread([this] { run(); });
  }

  void add(std::shared_ptr<Guarded> guarded) {
    {
      const std::lock_guard lock(lock_);
      arriving_.push_back(std::move(guarded));
    }
    const uint64_t one = 1;
    if (::write(wake_.get(), &one, sizeof one) < 0) return;  // full: it is awake anyway
  }

 private:
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
    int64_t next = kNever;
    polls_.assign(1, {wake_.get(), POLLIN, 0});
    for (auto& guarded : watched_) next = std::min(next, prepare(*guarded));
    int wait = -1;
    if (next != kNever) {
      const int64_t left = std::max<int64_t>(next - now_ns(), 0);
      wait = static_cast<int>(std::min<int64_t>((left + kMillisecond - 1) / kMillisecond, 1 << 30));
    }
    poll(polls_.data(), polls_.size(), wait);
    uint64_t count;
    while (::read(wake_.get(), &count, sizeof count) > 0) {
    }
    std::erase_if(watched_, [](const auto& guarded) { return !serve(*guarded); });
    const std::lock_guard lock(lock_);
    watched_.reserve(watched_.size() + arriving_.size());  // all of them or none
    for (auto& guarded : arriving_) watched_.push_back(std::move(guarded));
    arriving_.clear();
  }

  // Adds the descriptors to wait for; answers when to look at the clock again.
  int64_t prepare(Guarded& guarded) {
    const std::lock_guard lock(guarded.lock);
    Launched& container = guarded.container;
    // Once it has ended only what its reader hasn't taken yet matters; its pidfd would stay
    // readable for ever.
    const bool ended = container.reaped || is_over(container);
    bool held_up = !ended;
    if (!ended) polls_.push_back({container.pidfd.get(), POLLIN, 0});
    for (Relay& relay : guarded.relays) {
      if (!relay.from) continue;
      const bool full = guarded.output > 0 && !writable(relay.to.get());
      held_up = held_up || full;
      polls_.push_back({full ? relay.to.get() : relay.from.get(),
                        static_cast<short>(full ? POLLOUT : POLLIN), 0});
    }
    // One that ended between two turns has nothing left that would wake this thread: without
    // another turn at once its descriptors would stay until the next container.
    if (!held_up) return 0;
    if (ended || guarded.limit != Limit::kNone) return kNever;
    polls_.push_back(memory_event(cgroup_of(guarded)));
    return guarded.limits.next();
  }

  static Cgroup* cgroup_of(Guarded& guarded) {
    return guarded.container.cgroup ? &*guarded.container.cgroup : nullptr;
  }

  static bool is_over(const Launched& container) {
    pollfd ended{container.pidfd.get(), POLLIN, 0};
    return poll(&ended, 1, 0) > 0;
  }

  static bool writable(int fd) {
    pollfd out{fd, POLLOUT, 0};
    return poll(&out, 1, 0) > 0;
  }

  // False when there is nothing left to watch.
  static bool serve(Guarded& guarded) {
    const std::lock_guard lock(guarded.lock);
    Launched& container = guarded.container;
    const bool ended = container.reaped || is_over(container);
    if (!ended) check(guarded);
    bool flowing = false;
    for (Relay& one : guarded.relays) {
      if (one.from && !relay(guarded, one, ended)) one = {};
      flowing = flowing || one.from;
    }
    return !ended || flowing;
  }

  static void check(Guarded& guarded) {
    if (guarded.limit != Limit::kNone) return;
    pollfd event = memory_event(cgroup_of(guarded));
    const bool told = event.fd >= 0 && poll(&event, 1, 0) > 0;
    guarded.limit = told && killed_for_memory(*cgroup_of(guarded))
                        ? Limit::kMemory
                        : guarded.limits.reached(cgroup_of(guarded), now_ns());
    if (guarded.limit != Limit::kNone) guarded.container.kill();
  }

  KeptFd wake_;
  std::mutex lock_;
  std::vector<std::shared_ptr<Guarded>> arriving_;  // under lock_
  std::vector<std::shared_ptr<Guarded>> watched_;   // the thread's own
  std::vector<pollfd> polls_;
};

// In a forked child the parent's thread doesn't exist and its locks may be held: a new one is made
// and the old left alone.
LimitThread& limit_thread() {
  static std::atomic<LimitThread*> current{nullptr};
  static std::atomic<uint64_t> made_in{0};
  static std::atomic_flag busy = ATOMIC_FLAG_INIT;
  struct Busy {  // also where none can be made
    Busy() {
      while (busy.test_and_set()) std::this_thread::yield();
    }
    ~Busy() { busy.clear(); }
  };
  static std::atomic<uint64_t> busy_in{0};
  if (busy_in.exchange(fork_generation()) != fork_generation()) busy.clear();
  const Busy alone;
  if (current == nullptr || made_in != fork_generation()) {
    current = new LimitThread;
    made_in = fork_generation();
  }
  return *current;
}

}  // namespace

bool Guarded::needs_limit_thread() const {
  const bool memory = container.cgroup && container.cgroup->oom_fd() >= 0;
  return memory || limits.wall != kNever || limits.cpu > 0 || relays[0].from || relays[1].from;
}

void watch_over(std::shared_ptr<Guarded> guarded) { limit_thread().add(std::move(guarded)); }

}  // namespace pyminicon::parent
