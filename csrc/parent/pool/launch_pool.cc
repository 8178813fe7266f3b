#include "parent/pool/launch_pool.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "parent/failure.h"
#include "parent/files/fd.h"
#include "parent/process/clone.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {

struct LaunchPool::Shared : std::enable_shared_from_this<LaunchPool::Shared> {
  struct Item {
    uint64_t number;
    std::function<void()> work;
  };
  const uint64_t generation = fork_generation();

  std::mutex lock;
  std::condition_variable wanted;
  std::deque<Item> waiting;
  std::vector<uint64_t> over;  // with room for all that is going on
  Fd event;
  uint64_t last = 0;
  size_t going = 0;  // added, and not over
  size_t threads = 0, idle = 0, most = 1;
  bool closed = false;

  void serve();
  void spawn();                     // under lock
  void work_off(Item& item);        // without
  void note_over(uint64_t number);  // under lock
};

// A thread's whole life: it ends when nothing has come for a while, or the pool is closed.
void LaunchPool::Shared::serve() {
  constexpr std::chrono::seconds kPatience{1};
  std::unique_lock guard(lock);
  for (;;) {
    ++idle;
    wanted.wait_for(guard, kPatience, [this] { return closed || !waiting.empty(); });
    --idle;
    if (closed || waiting.empty()) break;
    Item item = std::move(waiting.front());
    waiting.pop_front();
    guard.unlock();
    work_off(item);
    guard.lock();
    note_over(item.number);
  }
  --threads;
}

// With the work goes what it held, before anybody hears that it is over.
void LaunchPool::Shared::work_off(Item& item) {
  item.work();
  item.work = nullptr;
}

void LaunchPool::Shared::note_over(uint64_t number) {
  over.push_back(number);
  --going;
  const uint64_t one = 1;
  // One write for all that is over when the reader comes; it can't fail with so small a count.
  if (over.size() == 1 && event && ::write(event.get(), &one, sizeof one) < 0) return;
}

void LaunchPool::Shared::spawn() {
  try {
    begin_thread([self = shared_from_this()] { self->serve(); });
    ++threads;
  } catch (const LaunchFailure&) {  // no more threads for this user: those that are must do
  }
}

// A launch sleeps for much of its time, in the kernel's locks and grace periods and while its child
// runs: with one for each processor a tenth of what could be launched isn't, on a busy machine a
// quarter.
size_t LaunchPool::most_threads() {
  constexpr size_t kEach = 4, kMost = 16;
  cpu_set_t mine;
  if (sched_getaffinity(0, sizeof mine, &mine) < 0) return kEach;
  return std::min(kEach * static_cast<size_t>(CPU_COUNT(&mine)), kMost);
}

LaunchPool::LaunchPool() : shared_(std::make_shared<Shared>()) {
  shared_->event = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared_->event) throw LaunchFailure(errno, Stage::kPrepare, "eventfd");
  shared_->most = most_threads();
}

bool LaunchPool::owned() const { return shared_ && shared_->generation == fork_generation(); }

int LaunchPool::fd() const { return shared_->event.get(); }

uint64_t LaunchPool::add(std::function<void()> work) {
  Shared& shared = *shared_;
  std::unique_lock guard(shared.lock);
  shared.over.reserve(shared.over.size() + shared.going + 1);
  const uint64_t number = ++shared.last;
  shared.waiting.push_back({number, std::move(work)});
  ++shared.going;
  if (shared.waiting.size() > shared.idle && shared.threads < shared.most) shared.spawn();
  if (shared.threads > 0) {
    shared.wanted.notify_one();
    return number;
  }
  Shared::Item item = std::move(shared.waiting.back());
  shared.waiting.pop_back();
  guard.unlock();
  shared.work_off(item);
  guard.lock();
  shared.note_over(number);
  return number;
}

bool LaunchPool::withdraw(uint64_t number) {
  if (!owned()) return false;  // in a forked child the lock may be held for ever
  Shared::Item item;           // destroyed without the lock
  const std::lock_guard guard(shared_->lock);
  const auto found = std::find_if(shared_->waiting.begin(), shared_->waiting.end(),
                                  [number](const auto& one) { return one.number == number; });
  if (found == shared_->waiting.end()) return false;
  item = std::move(*found);
  shared_->waiting.erase(found);
  --shared_->going;
  return true;
}

std::vector<uint64_t> LaunchPool::finished() {
  if (!owned()) return {};
  std::vector<uint64_t> room;
  const std::lock_guard guard(shared_->lock);
  room.reserve(shared_->going);
  uint64_t count;
  if (::read(shared_->event.get(), &count, sizeof count) < 0) return {};  // nothing was written
  return std::exchange(shared_->over, std::move(room));
}

// In a forked child the threads don't exist and the lock may be held: all is left as it is.
void LaunchPool::close() {
  if (!shared_) return;
  if (!owned()) {
    new std::shared_ptr<Shared>(std::move(shared_));
    return;
  }
  std::deque<Shared::Item> dropped;
  const std::lock_guard guard(shared_->lock);
  shared_->closed = true;
  dropped.swap(shared_->waiting);
  shared_->event.reset();
  shared_->wanted.notify_all();
}

}  // namespace pyminicon::parent
