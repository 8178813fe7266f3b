#include "parent/pool/stock.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "parent/launch/job.h"
#include "parent/plan/own_id.h"
#include "parent/process/clone.h"
#include "parent/process/failure.h"

namespace pyminicon::parent {
namespace {

Parked park_once(const PlanSpec& spec, const LaunchOptions& asked) {
  Parked parked;
  parked.id = new_id();
  LaunchOptions options;
  options.id = parked.id;
  options.deadline = asked.deadline;
  options.interrupted = asked.interrupted;
  for (int& fd : options.stdio) fd = kNullDevice;  // each run brings its own
  options.trace = true;  // the stamps tell a run when its program was exec'd
  parked.container = Launched(spec);
  LaunchJob job(spec, options);
  job.prepare(parked.container, true);
  job.clone(parked.container);
  job.attend(parked.container.pid);
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
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  iovec data{&offset, sizeof offset};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  if (sendmsg(parked.socket.get(), &message, MSG_NOSIGNAL) < 0) {
    const int error = errno;
    for (int i = 0; i < 3; ++i) {
      if (options.stdio[i] != kNullDevice && fcntl(options.stdio[i], F_GETFD) < 0) {
        throw LaunchFailure(EBADF, Stage::kStdio, "descriptor " + std::to_string(i));
      }
    }
    const Report& report = *parked.report;  // EPIPE: it has died, and says there why
    if (report.error != 0) throw_failure("", report, SIGKILL);
    throw LaunchFailure(error, Stage::kPark, "");
  }
}

}  // namespace

struct Stock::Shared : std::enable_shared_from_this<Stock::Shared> {
  std::shared_ptr<const PlanSpec> spec;
  size_t size = 0;
  uint64_t generation = fork_generation();

  std::mutex lock;
  std::condition_variable wanted;   // the thread sleeps on it
  std::condition_variable stopped;  // close() does
  std::deque<Parked> ready;
  size_t direct = 0;  // runs that are making a container themselves
  size_t processors = 1;
  bool running = false;  // the thread
  bool failed = false;   // the last one could not be made: a run will find out why
  std::vector<Fd> discarded;
  bool closed = false;

  void serve();
  void spawn();  // under lock
};

// Makes containers while the stock isn't full. Ends when the stock is closed.
void Stock::Shared::serve() {
  std::unique_lock guard(lock);
  for (;;) {
    wanted.wait(guard, [this] {
      const bool fill = !failed && ready.size() < size && direct < processors;
      return closed || !discarded.empty() || fill;
    });
    if (closed) break;
    if (!discarded.empty()) {
      std::vector<Fd> closing = std::move(discarded);
      discarded.clear();
      guard.unlock();
      closing.clear();
      guard.lock();
      continue;
    }
    guard.unlock();
    std::optional<Parked> made;
    try {
      made.emplace(make_parked(*spec, {}));
    } catch (
        ...) {  // whatever it is: the next run makes its own, and throws it where it can be caught
    }
    guard.lock();
    failed = !made;
    if (made && !closed) ready.push_back(std::move(*made));
  }
  running = false;
  stopped.notify_all();
}

void Stock::Shared::spawn() {
  running = true;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the embedding program's business
  std::thread([self = shared_from_this()] { self->serve(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Stock::Stock(std::shared_ptr<const PlanSpec> spec, size_t size)
    : shared_(std::make_shared<Shared>()) {
  shared_->spec = std::move(spec);
  shared_->size = size;
  shared_->processors = std::max(1U, std::thread::hardware_concurrency());
}

Stock::~Stock() { close(); }

void Stock::warm(const LaunchOptions& options) {
  Parked first = take(options);
  const std::lock_guard guard(shared_->lock);
  shared_->ready.push_front(std::move(first));
  shared_->spawn();
}

bool Stock::owned() const { return shared_->generation == fork_generation(); }

size_t Stock::ready() const {
  if (!owned()) return 0;
  const std::lock_guard guard(shared_->lock);
  return shared_->ready.size();
}

// A run that finds the stock empty makes its own container in its own thread, at the price of a
// cold launch; the threads stand back while as many of these are going on as there are processors.
Parked Stock::take(const LaunchOptions& options) {
  Shared& shared = *shared_;
  std::unique_lock guard(shared.lock);
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

std::optional<DirectLaunch> Stock::launch_directly() {
  const std::lock_guard guard(shared_->lock);
  if (shared_->closed || !shared_->ready.empty()) return std::nullopt;
  ++shared_->direct;
  return std::optional<DirectLaunch>(std::in_place, *this);
}

DirectLaunch::~DirectLaunch() {
  const std::lock_guard guard(stock_.shared_->lock);
  --stock_.shared_->direct;
}

void Stock::refill() { shared_->wanted.notify_one(); }

void Stock::discard(Fd root, Fd mount_namespace) {
  const std::lock_guard guard(shared_->lock);
  if (shared_->closed) return;  // the descriptors are closed here
  shared_->discarded.push_back(std::move(root));
  shared_->discarded.push_back(std::move(mount_namespace));
}

// In a forked child the threads don't exist and the lock may be held: the stock is let go as it is,
// its descriptors closed with the process; the containers are the parent's.
void Stock::close() {
  if (!shared_) return;
  if (!owned()) {
    new std::shared_ptr<Shared>(std::move(shared_));
    return;
  }
  std::unique_lock guard(shared_->lock);
  shared_->closed = true;
  shared_->wanted.notify_all();
  shared_->stopped.wait(guard, [this] { return !shared_->running; });
  std::deque<Parked> left = std::move(shared_->ready);
  std::vector<Fd> closing = std::move(shared_->discarded);
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
  pollfd watched{parked.failure.get(), POLLIN, 0};
  while (poll(&watched, 1, -1) < 0) {
    if (errno == EINTR && options.interrupted) options.interrupted();
  }
  check_run(parked, exec, false);
}

void check_run(const Parked& parked, const ExecSpec& exec, bool stopped) {
  const Report& report = *parked.report;
  const bool reached = report.stage == static_cast<uint32_t>(Stage::kExec);
  if (report.error == 0 && (reached || stopped)) return;
  LaunchOptions told;
  told.exec = exec;
  throw_failure(subject_of({}, told, {}, report), report, SIGKILL);
}

}  // namespace pyminicon::parent
