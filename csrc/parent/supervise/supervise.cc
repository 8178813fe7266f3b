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

}  // namespace

// Asked also by whoever doesn't give up: it helps what is to die along.
bool Contained::hopeless(int64_t killed_for) {
  return !container_.reaped && container_.hopeless(killed_for) && reaps_;
}

void Contained::give_up() {
  container_.given_up = true;
  container_.returncode = -SIGKILL;  // what it will be, when the kernel lets go of it
}

Supervisor::Supervisor(Supervised& whom, Streams& streams, std::string_view input, RunLimits limits,
                       Outcome& outcome)
    : whom_(whom),
      streams_{nullptr, &streams.input, &streams.output, &streams.error},
      to_{nullptr, nullptr, &streams.output_to, &streams.error_to},
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
    if (to_[stream] != nullptr) outcome.exchange.pass_on(stream - kInput, to_[stream]->get());
  }
  if (streams.input && !outcome.exchange.feed(streams.input.get())) drop(kInput);
  if (limits_.lasting) lasting_ = now_ns() + kLasting;
  if (ended_) finish();
}

bool Supervisor::go_on(const Interrupted& interrupted, int64_t until) {
  while (!gone() && !given_up_) {
    const int ready = step(wait_ms(std::min(next(), until)));
    if (ready < 0 || (ready == 0 && gets_signals())) interrupted();
    if (until != kNever && !ended_ && !given_up_ && now_ns() >= until) return false;
  }
  return true;
}

int Supervisor::step(int wait) {
  const int ready = poll(polls_, kWatched, wait);
  if (ready >= 0) serve();
  return ready;
}

void Supervisor::add_to(std::vector<pollfd>& polls) {
  renew();
  for (const pollfd& one : polls_) {
    if (one.fd >= 0) polls.push_back({one.fd, one.events, 0});
  }
}

const pollfd* Supervisor::step(const pollfd* answers) {
  bool ready = next() <= now_ns();
  for (pollfd& one : polls_) {
    one.revents = one.fd >= 0 ? answers++->revents : short{0};
    ready = ready || one.revents != 0;
  }
  if (!ready) return answers;
  renew();
  // It may have ended since these answers came, while others had their turn: that is no limit.
  pollfd& end = polls_[kPidfd];
  if (end.fd >= 0) poll(&end, 1, 0);
  serve();
  return answers;
}

// Where another has reaped and closed it these numbers may be anybody's by now.
void Supervisor::renew() {
  if (ended_) return;
  polls_[kPidfd].fd = whom_.fd();
  if (polls_[kMemory].fd >= 0) polls_[kMemory].fd = memory_event(whom_.cgroup()).fd;
  if (polls_[kPidfd].fd >= 0) return;
  end();
  finish();
}

void Supervisor::end() {
  ended_ = true;
  drop(kPidfd);
  drop(kMemory);
}

// Everything in the container is dead: what the pipes hold now is all that it will ever have
// written. Their end need not come: a process forked meanwhile by another thread may hold the write
// side, and may even write.
void Supervisor::finish() {
  drop(kInput);
  if (limits_.relayed && !given_up_) return;
  read(kOutput, true);
  read(kError, true);
}

int64_t Supervisor::next() const {
  if (ended_ || given_up_) return kNever;
  return killed_ ? look_at_ : std::min({limits_.timeout, limits_.next(), lasting_});
}

void Supervisor::serve() {
  if (polls_[kInput].revents != 0 && !outcome_.exchange.feed(polls_[kInput].fd)) drop(kInput);
  if (polls_[kOutput].revents != 0) read(kOutput, false);
  if (polls_[kError].revents != 0) read(kError, false);
  const bool memory = polls_[kMemory].fd >= 0 && polls_[kMemory].revents != 0;
  if (memory && killed_for_memory(*whom_.cgroup())) stop(Limit::kMemory);
  if (polls_[kPidfd].revents != 0 && whom_.over()) end();
  if (polls_[kCancel].revents != 0 && !ended_) stop(Limit::kNone, true);
  check_clock();
  look_whether_it_can_die();
  if (ended_ || given_up_) finish();
}

// `last`: what is there, and not what comes meanwhile.
void Supervisor::read(Watched stream, bool last) {
  if (polls_[stream].fd < 0) return;  // the other stream has just reached the limit
  Exchange& exchange = outcome_.exchange;
  const Output& output = exchange.of(stream - kInput);
  const uint64_t before = output.taken();
  const int fd = streams_[stream]->get();
  const bool more = last ? exchange.drain(stream - kInput, fd) : exchange.read(stream - kInput, fd);
  if (exchange.full()) {
    // Nothing more is read: what still comes would only wake us.
    stop(Limit::kOutput);
    drop(kOutput);
    drop(kError);
  } else if (!more) {
    drop(stream);
  } else if (output.passes_on()) {
    // Where nothing went through it isn't this end of the two that there is to wait for.
    const bool for_room = polls_[stream].events == POLLOUT;
    if (last || output.taken() == before) wait_for(stream, last || !for_room);
    if (!exchange.spent()) return;
    wait_for(kOutput, false);  // a byte that comes now is one too many, room or not
    wait_for(kError, false);
  }
}

void Supervisor::wait_for(Watched stream, bool room) {
  if (polls_[stream].fd < 0) return;
  polls_[stream] =
      room ? pollfd{to_[stream]->get(), POLLOUT, 0} : pollfd{streams_[stream]->get(), POLLIN, 0};
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
  if (to_[what] != nullptr) to_[what]->reset();
}

void supervise(Launched& container, Streams& streams, std::string_view input,
               const RunLimits& limits, const Interrupted& interrupted, Outcome& outcome) {
  Contained mine(container, Contained::kReaps);
  Supervisor(mine, streams, input, limits, outcome).go_on(interrupted);
  outcome.limit = limit_of_ended(container, outcome.limit);
}

}  // namespace pyminicon::parent
