#include "parent/supervise/supervise.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/syscall.h"
#include "parent/failure.h"

namespace pyminicon::parent {

bool gets_signals() { return getpid() == syscall(SYS_gettid); }

int wait_ms(int64_t deadline) {
  constexpr int64_t kLongest = 500;
  const bool signals = gets_signals();
  const int64_t most = signals ? kLongest : 1 << 30;
  if (deadline == kNever) return signals ? kLongest : -1;
  const int64_t left = std::max<int64_t>(deadline - now_ns(), 0);
  return static_cast<int>(std::min((left + 999999) / 1000000, most));
}

namespace {

constexpr int64_t kLookAgain = 100 * kMillisecond;  // at a container that was killed: can it die?

// A container that is waited for here and nowhere else.
class Mine final : public Supervised {
 public:
  explicit Mine(Launched& container) : container_(container) {}
  int fd() const override { return container_.pidfd.get(); }
  bool over() override { return container_.reap(true); }
  void kill() override { container_.kill(); }
  bool hopeless(int64_t killed_for) override { return container_.hopeless(killed_for); }
  void give_up() override {
    container_.given_up = true;
    container_.returncode = -SIGKILL;  // what it will be, when the kernel lets go of it
  }
  Cgroup* cgroup() override { return container_.cgroup ? &*container_.cgroup : nullptr; }

 private:
  Launched& container_;
};

}  // namespace

Supervisor::Supervisor(Supervised& whom, Streams& streams, std::string_view input, RunLimits limits,
                       Outcome& outcome)
    : whom_(whom),
      streams_{nullptr, &streams.input, &streams.output, &streams.error},
      limits_(std::move(limits)),
      outcome_(outcome),
      polls_{{whom.fd(), POLLIN, 0},
             {streams.input.get(), POLLOUT, 0},
             {streams.output.get(), POLLIN, 0},
             {streams.error.get(), POLLIN, 0},
             memory_event(whom.cgroup()),
             {limits_.cancel, POLLIN, 0}},
      ended_(whom.fd() < 0) {
  outcome.exchange = Exchange(input, limits_.output, limits_.trim);
  for (const Watched stream : {kInput, kOutput, kError}) {
    const int fd = polls_[stream].fd;
    if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  }
  if (streams.input && !outcome.exchange.feed(streams.input.get())) drop(kInput);
  if (limits_.lasting) lasting_ = now_ns() + kLasting;
}

bool Supervisor::gone() const {
  return ended_ && !(limits_.relayed && (polls_[kOutput].fd >= 0 || polls_[kError].fd >= 0));
}

bool Supervisor::go_on(const Interrupted& interrupted, int64_t until) {
  while (!gone() && !given_up_) {
    const int ready = step(wait_ms(std::min(next(), until)));
    if (ready < 0 || (ready == 0 && gets_signals())) interrupted();
    if (until != kNever && !ended_ && !given_up_ && now_ns() >= until) return false;
  }
  finish();
  return true;
}

int Supervisor::step(int wait) {
  const int ready = poll(polls_, kWatched, wait);
  if (ready < 0) return ready;
  if (ready > 0) serve();
  check_clock();
  look_whether_it_can_die();
  if (gone() || given_up_) finish();
  return ready;
}

// Everything in the container is dead: what the pipes hold now is all that it will ever have
// written. Their end need not come: a process forked meanwhile by another thread may hold the write
// side, and may even write.
void Supervisor::finish() {
  read(kOutput, true);
  read(kError, true);
  drop(kInput);
}

int64_t Supervisor::next() const {
  if (ended_ || given_up_) return kNever;
  return killed_ ? look_at_ : std::min({limits_.timeout, limits_.next(), lasting_});
}

void Supervisor::serve() {
  if (polls_[kInput].revents != 0 && !outcome_.exchange.feed(polls_[kInput].fd)) drop(kInput);
  if (polls_[kOutput].revents != 0) read(kOutput, false);
  if (polls_[kError].revents != 0) read(kError, false);
  if (polls_[kMemory].revents != 0 && killed_for_memory(*whom_.cgroup())) stop(Limit::kMemory);
  if (polls_[kPidfd].revents != 0 && whom_.over()) {
    ended_ = true;
    drop(kPidfd);
  }
  if (polls_[kCancel].revents != 0 && !ended_) stop(Limit::kNone, true);
}

// `last`: what is there, and not what comes meanwhile.
void Supervisor::read(Watched stream, bool last) {
  const int fd = polls_[stream].fd;
  if (fd < 0) return;  // the other stream has just reached the limit
  Exchange& exchange = outcome_.exchange;
  if (last) exchange.drain(stream - kInput, fd);
  if (last || !exchange.read(stream - kInput, fd)) drop(stream);
  if (!exchange.full()) return;
  // Nothing more is read: what still comes would only wake us.
  drop(kOutput);
  drop(kError);
  stop(Limit::kOutput);
}

// Killed, and it hangs in the kernel. By the clock and not by a poll in which nothing came:
// somebody else may have the write end of a pipe, and keep it readable.
void Supervisor::look_whether_it_can_die() {
  if (!killed_ || ended_ || given_up_) return;
  const int64_t now = now_ns();
  if (now < look_at_) return;
  look_at_ = now + kLookAgain;
  given_up_ = whom_.hopeless(now - killed_at_);
  if (given_up_) whom_.give_up();
}

void Supervisor::check_clock() {
  if (killed_ || next() == kNever) return;
  const int64_t now = now_ns();
  if (now >= lasting_) {
    lasting_ = kNever;
    limits_.lasting();
  }
  if (now >= limits_.timeout) {
    stop(Limit::kNone, true);
  } else if (const Limit limit = limits_.reached(whom_.cgroup(), now); limit != Limit::kNone) {
    stop(limit);
  }
}

void Supervisor::stop(Limit limit, bool timed_out) {
  if (killed_) return;
  outcome_.limit = limit;
  outcome_.timed_out = timed_out;
  kill();
}

void Supervisor::kill() {
  if (!killed_) killed_at_ = now_ns();
  killed_ = true;
  drop(kInput);
  drop(kMemory);
  drop(kCancel);
  if (!ended_) whom_.kill();
}

void Supervisor::wait_by(int epoll) {
  epoll_ = epoll;
  if (epoll < 0) return;
  const int whom = whom_.fd();
  for (const pollfd& one : polls_) {
    // The events have the same numbers.
    epoll_event event{static_cast<uint32_t>(one.events), {.fd = whom}};
    if (one.fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, one.fd, &event) < 0) {
      let_go();
      throw LaunchFailure(errno, Stage::kPrepare, "epoll");
    }
  }
}

void Supervisor::let_go() {
  for (const Watched what : {kPidfd, kInput, kOutput, kError, kMemory, kCancel}) drop(what);
}

void Supervisor::drop(Watched what) {
  int& fd = polls_[what].fd;
  // Before it is closed: a copy of it elsewhere would keep it there.
  if (epoll_ >= 0 && fd >= 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  fd = -1;
  Fd* const stream = streams_[what];
  if (stream == nullptr) return;
  if (limits_.borrowed && what != kInput) static_cast<void>(stream->release());
  stream->reset();
}

void supervise(Launched& container, Streams& streams, std::string_view input,
               const RunLimits& limits, const Interrupted& interrupted, Outcome& outcome) {
  Mine mine(container);
  Supervisor(mine, streams, input, limits, outcome).go_on(interrupted);
  if (outcome.limit == Limit::kNone && container.cgroup && container.memory_limit != 0 &&
      container.cgroup->oom_killed()) {
    outcome.limit = Limit::kMemory;
  }
}

}  // namespace pyminicon::parent
