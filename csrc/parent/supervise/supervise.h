// One container or command until its end: fed, read, held to its limits, killed, given up where it
// can't die. A machine that is stepped with what is ready: by run and communicate in poll(), by
// asyncio from its loop, by the limit thread in one poll() for many.
#pragma once

#include <poll.h>

#include <functional>
#include <string_view>
#include <vector>

#include "parent/launch/launch.h"
#include "parent/supervise/exchange.h"
#include "parent/supervise/limits.h"

namespace pyminicon::parent {

struct RunLimits : Limits {
  int64_t timeout = kNever;            // deadline, CLOCK_MONOTONIC ns: the caller's own
  uint64_t output = UINT64_MAX;        // bytes, both streams together
  bool trim = false;                   // no more is kept of either, instead of an end
  bool relayed = false;                // its outputs go on after its end, to their own
  bool borrowed = false;               // they are another's to close
  int cancel = -1;                     // readable: as at the timeout
  std::function<void()> lasting = {};  // called once, when it has run for kLasting
};

// Longer than nearly all containers that somebody makes a template for, in ns.
constexpr int64_t kLasting = 3000000;

struct Streams {
  Fd input, output, error;           // the parent's ends; empty where there is no pipe
  Fd output_to = {}, error_to = {};  // pipes into which these are passed on instead of being kept
};

struct Outcome {
  Exchange exchange;
  Limit limit = Limit::kNone;
  bool timed_out = false;
};

// Whether it is this thread in which Python's handlers run.
bool gets_signals();

// How long poll() may wait for `deadline`, in ms, -1 for ever. In the main thread half a second at
// most: a signal that comes just before poll(), or to another thread, interrupts nothing.
int wait_ms(int64_t deadline);

// What is supervised.
class Supervised {
 public:
  virtual ~Supervised() = default;
  virtual int fd() const = 0;  // readable when it may be over; none: it is
  virtual bool over() = 0;     // asked then
  virtual void kill() = 0;
  virtual bool hopeless(int64_t killed_for) = 0;  // ns; asked now and then, which may help it along
  virtual void give_up() = 0;                     // nobody waits for it any more
  virtual Cgroup* cgroup() { return nullptr; }    // where what it uses is looked at
};

// A container of this process. Whoever only looks on neither reaps it nor gives it up: another
// waits for it, or nobody does.
class Contained final : public Supervised {
 public:
  enum At { kReaps, kLooksOn };
  Contained(Launched& container, At at) : container_(container), reaps_(at == kReaps) {}
  int fd() const override { return container_.pidfd.get(); }
  bool over() override { return !reaps_ || container_.reap(true); }
  void kill() override { container_.kill(); }
  bool hopeless(int64_t killed_for) override;
  void give_up() override;
  Cgroup* cgroup() override { return container_.cgroup ? &*container_.cgroup : nullptr; }

 private:
  Launched& container_;
  bool reaps_;
};

class Supervisor {
 public:
  // What isn't taken by value must outlive it.
  Supervisor(Supervised& whom, Streams& streams, std::string_view input, RunLimits limits,
             Outcome& outcome);
  ~Supervisor() {
    if (limits_.borrowed) let_go();
  }
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Steps until its end, or until `until`: false then.
  bool go_on(const Interrupted& interrupted, int64_t until = kNever);
  // Does what there is to do after `wait` ms at the most; what poll() has answered.
  int step(int wait);
  // The same for whoever waits for many in one poll(): what this one waits for, then with what was
  // answered to that, where it returns where the next one's answers begin. Between the two, but not
  // meanwhile, others may reap and close what is watched.
  void add_to(std::vector<pollfd>& polls);
  const pollfd* step(const pollfd* answers);
  // When to step though nothing is ready.
  int64_t next() const;
  // From now on all that it waits for is in `epoll`, with whom.fd() for data; -1: in none.
  void wait_by(int epoll);
  void let_go();

  void kill();
  bool gone() const { return ended_ && !flows(); }  // and all has been taken
  bool given_up() const { return given_up_; }

 private:
  enum Watched { kPidfd, kInput, kOutput, kError, kMemory, kCancel, kWatched };

  bool flows() const { return polls_[kOutput].fd >= 0 || polls_[kError].fd >= 0; }
  void renew();
  void serve();
  void end();
  void finish();
  void read(Watched stream, bool last);
  void wait_for(Watched stream, bool room);
  void check_clock();
  void look_whether_it_can_die();
  void stop(Limit limit, bool timed_out = false);
  void drop(Watched what);

  Supervised& whom_;
  Fd *const streams_[kWatched], *const to_[kWatched];
  RunLimits limits_;
  Outcome& outcome_;
  pollfd polls_[kWatched];
  int epoll_ = -1;
  int64_t killed_at_ = 0, look_at_ = 0, lasting_ = kNever;
  bool ended_ = false, killed_ = false, given_up_ = false;
};

// Returns when the container has ended and been reaped, by itself, at a limit or at the timeout
// (then killed). `input` must outlive the call.
void supervise(Launched& container, Streams& streams, std::string_view input,
               const RunLimits& limits, const Interrupted& interrupted, Outcome& outcome);

}  // namespace pyminicon::parent
