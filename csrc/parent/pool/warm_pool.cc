#include "parent/pool/warm_pool.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

#include "base/message.h"
#include "parent/failure.h"
#include "parent/launch/job.h"
#include "parent/plan/placeholder_id.h"
#include "parent/process/clone.h"
#include "parent/process/patience.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {
namespace {

Parked park_once(const PlanSpec& spec, const LaunchOptions& asked) {
  Parked parked;
  parked.id = new_id();
  LaunchOptions options;
  options.id = parked.id;
  options.deadline = asked.deadline;
  options.cancel = asked.cancel;
  options.interrupted = asked.interrupted;
  for (int& fd : options.stdio) fd = kNullDevice;  // each run brings its own
  options.trace = true;  // the stamps tell a run when its program was exec'd
  parked.container = Launched(spec);
  LaunchJob job(spec, options);
  job.prepare(parked.container, true);
  job.clone(parked.container);
  job.attend(parked.container);
  job.check(parked.container, Stage::kPark);
  parked.report = &job.report();
  parked.memory = job.take_memory();
  parked.socket = job.take_park();
  parked.failure = job.take_failure();
  return parked;
}

Parked make_parked(const PlanSpec& spec, const LaunchOptions& asked) {
  return with_other_means([&] { return park_once(spec, asked); });
}

void send_run(Parked& parked, uint64_t offset, const LaunchOptions& options) {
  std::vector<int> fds;
  for (const int fd : options.stdio) {
    if (fd != kNullDevice) fds.push_back(fd);
  }
  fds.insert(fds.end(), options.pass.begin(), options.pass.end());
  const long sent = send_message(parked.socket.get(), &offset, sizeof offset, fds.data(),
                                 static_cast<uint32_t>(fds.size()), MSG_NOSIGNAL);
  if (sent < 0) {
    for (int i = 0; i < 3; ++i) {
      if (options.stdio[i] != kNullDevice && fcntl(options.stdio[i], F_GETFD) < 0) {
        throw LaunchFailure(EBADF, Stage::kStdio, "descriptor " + std::to_string(i));
      }
    }
    const Report& report = *parked.report;  // EPIPE: it has died, and says there why
    if (report.error != 0) throw_failure("", report, SIGKILL);
    throw LaunchFailure(static_cast<int>(-sent), Stage::kPark, "");
  }
}

}  // namespace

// So long a pause is always used, however long a making has lasted once.
constexpr int64_t kMostQuiet = 3000000;  // ns

struct WarmPool::Shared : std::enable_shared_from_this<WarmPool::Shared> {
  std::shared_ptr<const PlanSpec> spec;
  size_t size = 0;
  uint64_t generation = fork_generation();

  std::mutex lock;
  std::condition_variable wanted;   // the thread sleeps on it
  std::condition_variable stopped;  // close() does
  std::condition_variable arrived;  // a run does, for the container that is being made
  std::deque<Parked> ready;
  size_t direct = 0;          // runs that are making a container themselves
  bool making = false;        // the thread is
  bool lasting = false;       // a run is known to last: there is time for it
  int64_t took = kMostQuiet;  // ns, for the last one
  int64_t stirred = 0;        // when a run has last begun or ended
  int64_t ended = 0;          // when one has
  int64_t pause = kNever;     // between that and the next run, the last time
  bool running = false;       // the thread
  bool failed = false;        // the last one could not be made: a run will find out why
  std::vector<Fd> discarded;
  bool closed = false;
  Fd closing{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};  // what the thread is at ends with it

  void serve();
  void make(std::unique_lock<std::mutex>& guard);
  int64_t idle_until() const;  // under lock
  void begin_run();            // under lock
  void await_made(std::unique_lock<std::mutex>& guard);
  void spawn();  // under lock
};

// A run and the making of a container want the same locks of the kernel's, and take twice as long
// beside each other. Where runs follow each other faster than containers can be made, the warm pool
// is of no use, and is filled when nobody has come for as long as a making lasts.
int64_t WarmPool::Shared::idle_until() const {
  return pause < took && !lasting ? stirred + took : 0;
}

void WarmPool::Shared::begin_run() {
  stirred = now_ns();
  if (ended != 0) pause = stirred - ended;
  lasting = false;
}

// No longer than twice what it took before: one may hang.
void WarmPool::Shared::await_made(std::unique_lock<std::mutex>& guard) {
  const std::chrono::nanoseconds patience(2 * took);
  arrived.wait_for(guard, patience, [this] { return closed || !making || !ready.empty(); });
}

// Makes containers while the warm pool isn't full. Ends when the warm pool is closed.
void WarmPool::Shared::serve() {
  std::unique_lock guard(lock);
  for (;;) {
    wanted.wait(guard, [this] {
      const bool fill = !failed && ready.size() < size && direct == 0;
      return closed || !discarded.empty() || fill;
    });
    if (closed) break;
    if (!discarded.empty()) {
      std::vector<Fd> going = std::move(discarded);
      discarded.clear();
      guard.unlock();
      going.clear();
      guard.lock();
      continue;
    }
    const int64_t idle = idle_until() - now_ns();
    if (idle > 0) {
      wanted.wait_for(guard, std::chrono::nanoseconds(idle));
    } else {
      make(guard);
    }
  }
  running = false;
  stopped.notify_all();
}

void WarmPool::Shared::make(std::unique_lock<std::mutex>& guard) {
  making = true;
  guard.unlock();
  const int64_t begun = now_ns();
  std::optional<Parked> made;
  LaunchOptions options;
  options.cancel = closing.get();
  try {
    made.emplace(make_parked(*spec, options));
  } catch (...) {
    // Whatever it is: the next run makes its own, and throws it where it can be caught.
  }
  guard.lock();
  making = false;
  took = std::min(now_ns() - begun, kMostQuiet);
  failed = !made;
  try {
    if (made && !closed) ready.push_back(std::move(*made));
  } catch (const std::bad_alloc&) {
    failed = true;
  }
  arrived.notify_one();
}

void WarmPool::Shared::spawn() {
  begin_thread([self = shared_from_this()] { self->serve(); });
  running = true;  // it begins with this lock, which is ours until it counts
}

WarmPool::WarmPool(std::shared_ptr<const PlanSpec> spec, size_t size)
    : shared_(std::make_shared<Shared>()) {
  shared_->spec = std::move(spec);
  shared_->size = size;
}

WarmPool::~WarmPool() { close(); }

void WarmPool::warm(const LaunchOptions& options) {
  Parked first = take(options);
  const std::lock_guard guard(shared_->lock);
  shared_->ready.push_front(std::move(first));
  shared_->spawn();
}

bool WarmPool::owned() const { return shared_->generation == fork_generation(); }

size_t WarmPool::ready() const {
  if (!owned()) return 0;
  const std::lock_guard guard(shared_->lock);
  return shared_->ready.size();
}

// A run that finds the warm pool empty makes its own container in its own thread, at the price of a
// cold launch, and the warm pool's thread stands back meanwhile; what that is making already is
// soon there, and waited for.
Parked WarmPool::take(const LaunchOptions& options) {
  Shared& shared = *shared_;
  std::unique_lock guard(shared.lock);
  shared.begin_run();
  shared.await_made(guard);
  if (shared.closed) throw LaunchFailure(ESHUTDOWN, Stage::kPark, "", "the template is closed");
  if (!shared.ready.empty()) {
    Parked parked = std::move(shared.ready.front());
    shared.ready.pop_front();
    return parked;
  }
  ++shared.direct;
  guard.unlock();
  const DirectLaunch launch(*this);
  return make_parked(*shared.spec, options);
}

std::optional<DirectLaunch> WarmPool::launch_directly() {
  std::unique_lock guard(shared_->lock);
  shared_->await_made(guard);
  if (shared_->closed || !shared_->ready.empty()) return std::nullopt;  // take() is called then
  shared_->begin_run();
  ++shared_->direct;
  return std::optional<DirectLaunch>(std::in_place, *this);
}

DirectLaunch::~DirectLaunch() {
  const std::lock_guard guard(warm_pool_.shared_->lock);
  --warm_pool_.shared_->direct;
  warm_pool_.shared_->failed =
      false;  // worth another try: what there was too little of may be there
}

void WarmPool::refill(bool lasting) {
  const std::lock_guard guard(shared_->lock);
  shared_->stirred = shared_->ended = now_ns();
  shared_->lasting = lasting;
  shared_->wanted.notify_one();
}

void WarmPool::discard(Fd root, Fd mount_namespace) {
  const std::lock_guard guard(shared_->lock);
  if (shared_->closed) return;  // the descriptors are closed here
  shared_->discarded.push_back(std::move(root));
  shared_->discarded.push_back(std::move(mount_namespace));
}

// In a forked child the threads don't exist and the lock may be held: the warm pool is let go as it
// is, its descriptors closed with the process; the containers are the parent's.
void WarmPool::close() {
  if (!shared_) return;
  if (!owned()) {
    new std::shared_ptr<Shared>(std::move(shared_));
    return;
  }
  std::unique_lock guard(shared_->lock);
  shared_->closed = true;
  shared_->wanted.notify_all();
  shared_->arrived.notify_all();
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(shared_->closing.get(), &one, sizeof one);
  // A container that hangs in the kernel is given up by the thread, and so is the thread by us.
  constexpr std::chrono::seconds kPatience{6};
  shared_->stopped.wait_for(guard, kPatience, [this] { return !shared_->running; });
  std::deque<Parked> left = std::move(shared_->ready);
  std::vector<Fd> going = std::move(shared_->discarded);
  if (!shared_->running) shared_->closing.reset();
  guard.unlock();
  left.clear();
}

void unpark(Parked& parked, const ExecSpec& exec, const LaunchOptions& options, bool confirm) {
  parked.container.begun = now_ns();
  Arena arena;
  build_run(exec, options.stdio, options.pass, arena);
  const uint64_t offset = parked.memory->append(arena);
  send_run(parked, offset, options);
  parked.container.started = now_ns();
  if (!confirm) return;
  if (!readable_within(patience_of(options), parked.failure.get())) throw SetupTimeout{};
  check_run(parked, exec, false);
}

void check_run(const Parked& parked, const ExecSpec& exec, bool stopped) {
  tell_of_init(*parked.report);
  const Report& report = *parked.report;
  const bool lives = exec.argv.empty() && report.init == kInitReady;
  const bool reached = report.stage == static_cast<uint32_t>(lives ? Stage::kInit : Stage::kExec);
  if (report.error == 0 && (reached || stopped)) return;
  LaunchOptions options;
  options.exec = exec;
  throw_failure(subject_of({}, options, {}, report), report, SIGKILL);
}

}  // namespace pyminicon::parent
