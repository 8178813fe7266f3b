#include "parent/supervise/supervise.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/syscall.h"

namespace pyminicon::parent {

bool gets_signals() { return getpid() == gettid(); }

int wait_ms(int64_t deadline) {
  constexpr int64_t kLongest = 500;
  const int64_t most = gets_signals() ? kLongest : 1 << 30;
  if (deadline == kNever) return gets_signals() ? kLongest : -1;
  const int64_t left = std::max<int64_t>(deadline - now_ns(), 0);
  return static_cast<int>(std::min((left + 999999) / 1000000, most));
}

namespace {

constexpr int kLookAgainMs = 100;  // at a container that was killed: can it die?

// A write into a pipe whose reader has gone raises SIGPIPE; an embedding program need not ignore
// it.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before_);
  }
  ~WithoutSigpipe() {
    if (sigismember(&before_, SIGPIPE) == 0) {
      sigset_t pipe;
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      const timespec none{};
      while (sigtimedwait(&pipe, nullptr, &none) > 0) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_;
};

class Supervisor {
 public:
  Supervisor(Launched& container, Streams& streams, std::string_view input, const RunLimits& limits,
             Outcome& outcome)
      : container_(container),
        streams_(streams),
        limits_(limits),
        held_(limits),
        cgroup_(container.cgroup ? &*container.cgroup : nullptr),
        outcome_(outcome) {
    outcome.exchange = Exchange(input, limits.output, limits.trim);
    for (const int fd : {streams.input.get(), streams.output.get(), streams.error.get()}) {
      if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    }
    if (streams.input && input.empty()) streams.input.reset();
    if (limits.lasting) lasting_ = now_ns() + kLasting;
  }

  void run(const Interrupted& interrupted) {
    while (!ended_) {
      const int ready = wait();
      if (ready < 0 && errno == EINTR) {
        interrupted();
        continue;
      }
      if (ready == 0 && gets_signals()) interrupted();
      if (ready > 0) serve();
      check_clock();
      if (cannot_die()) {
        container_.given_up = true;
        container_.returncode = -SIGKILL;  // what it will be, when the kernel lets go of it
        break;
      }
    }
    // Everything in the container is dead: what the pipes hold now is all that it will ever have
    // written. Their end need not come: a process forked meanwhile by another thread may hold the
    // write side, and may even write.
    drain(streams_.output, Exchange::kOutput);
    drain(streams_.error, Exchange::kError);
  }

 private:
  enum Watched { kPidfd, kInput, kOutput, kError, kMemory, kCancel, kWatched };

  int wait() {
    polls_[kPidfd] = {container_.pidfd.get(), POLLIN, 0};
    polls_[kInput] = {streams_.input.get(), POLLOUT, 0};
    polls_[kOutput] = {streams_.output.get(), POLLIN, 0};
    polls_[kError] = {streams_.error.get(), POLLIN, 0};
    polls_[kMemory] = memory_event(killed_ ? nullptr : cgroup_);
    polls_[kCancel] = {killed_ ? -1 : limits_.cancel, POLLIN, 0};
    const int64_t next = std::min({limits_.timeout, held_.next(), lasting_});
    if (killed_) return poll(polls_, kWatched, kLookAgainMs);
    return poll(polls_, kWatched, wait_ms(next));
  }

  void serve() {
    if (polls_[kInput].revents != 0 && !outcome_.exchange.feed(streams_.input.get())) {
      streams_.input.reset();
    }
    if (polls_[kOutput].revents != 0) read(streams_.output, Exchange::kOutput);
    if (polls_[kError].revents != 0) read(streams_.error, Exchange::kError);
    if (polls_[kMemory].revents != 0 && killed_for_memory(*cgroup_)) stop(Limit::kMemory);
    if (polls_[kPidfd].revents != 0) ended_ = container_.reap(true);
    if (polls_[kCancel].revents != 0 && !ended_) time_out();
  }

  void read(Fd& fd, int which) {
    if (!fd) return;  // the other stream has just reached the limit
    if (!outcome_.exchange.read(which, fd.get())) fd.reset();
    stop_if_full();
  }

  void drain(Fd& fd, int which) {
    if (fd) outcome_.exchange.drain(which, fd.get());
    fd.reset();
    stop_if_full();
  }

  void stop_if_full() {
    if (!outcome_.exchange.full()) return;
    // Nothing more is read: what still comes would only wake us.
    streams_.output.reset();
    streams_.error.reset();
    stop(Limit::kOutput);
  }

  // Killed, and it hangs in the kernel. By the clock and not by a poll in which nothing came:
  // somebody else may have the write end of a pipe, and keep it readable.
  bool cannot_die() {
    if (!killed_ || ended_) return false;
    const int64_t now = now_ns();
    if (now < look_at_) return false;
    look_at_ = now + kLookAgainMs * kMillisecond;
    return container_.hopeless(now - killed_at_);
  }

  void check_clock() {
    if (ended_ || killed_) return;
    if (std::min({limits_.timeout, held_.next(), lasting_}) == kNever) return;
    const int64_t now = now_ns();
    if (now >= lasting_) {
      lasting_ = kNever;
      limits_.lasting();
    }
    if (now >= limits_.timeout) {
      time_out();
    } else if (const Limit limit = held_.reached(cgroup_, now); limit != Limit::kNone) {
      stop(limit);
    }
  }

  void time_out() {
    if (killed_) return;
    outcome_.timed_out = true;
    stop(Limit::kNone);
  }

  void stop(Limit limit) {
    if (killed_) return;
    killed_ = true;
    killed_at_ = now_ns();
    outcome_.limit = limit;
    streams_.input.reset();
    if (!ended_) container_.kill();
  }

  Launched& container_;
  Streams& streams_;
  const RunLimits& limits_;
  Limits held_;
  Cgroup* cgroup_;
  Outcome& outcome_;
  pollfd polls_[kWatched];
  int64_t killed_at_ = 0, look_at_ = 0, lasting_ = kNever;
  bool ended_ = false, killed_ = false;
};

}  // namespace

void supervise(Launched& container, Streams& streams, std::string_view input,
               const RunLimits& limits, const Interrupted& interrupted, Outcome& outcome) {
  const WithoutSigpipe guard;
  Supervisor(container, streams, input, limits, outcome).run(interrupted);
  if (outcome.limit == Limit::kNone && container.cgroup && container.memory_limit != 0 &&
      container.cgroup->oom_killed()) {
    outcome.limit = Limit::kMemory;
  }
}

}  // namespace pyminicon::parent
