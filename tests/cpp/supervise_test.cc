// Facts about parent/supervise/supervise.h and the limit thread, with plain forked children in the
// place of containers.
#include "parent/supervise/supervise.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fact.h"
#include "parent/supervise/limit_thread.h"

using namespace pyminicon::parent;

namespace {

constexpr int64_t kSecond = 1000000000;
const Interrupted kIgnore = [] {};

std::string text_of(const Output& output) {
  std::string all(output.size(), 0);
  output.copy_to(all.data());
  return all;
}

struct Child {
  Launched container;
  Streams streams;
};

// A process that runs `body` with pipes as stdin, stdout and stderr, and exits with its answer.
Child start(const std::function<int()>& body) {
  Child child;
  Pipe in = make_pipe(), out = make_pipe(), err = make_pipe();
  // Not fork: whoever forks by it, beside a launch, closes what is ours in the child.
  const pid_t pid = _Fork();
  if (pid == 0) {
    dup2(in.read.get(), 0);
    dup2(out.write.get(), 1);
    dup2(err.write.get(), 2);
    for (Pipe* pipe : {&in, &out, &err}) {
      pipe->read.reset();
      pipe->write.reset();
    }
    _exit(body());
  }
  child.container.pid = pid;
  child.container.pidfd = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  child.streams.input = std::move(in.write);
  child.streams.output = std::move(out.read);
  child.streams.error = std::move(err.read);
  return child;
}

int write_text(int fd, const char* text) {
  return ::write(fd, text, std::strlen(text)) == static_cast<ssize_t>(std::strlen(text)) ? 0 : 1;
}

int copy_stdin() {
  char buffer[65536];
  for (ssize_t got; (got = read(0, buffer, sizeof buffer)) > 0;) {
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t now = ::write(1, buffer + sent, static_cast<size_t>(got - sent));
      if (now < 0) return 1;
      sent += now;
    }
  }
  return 0;
}

Outcome supervised(Child& child, std::string_view input, const RunLimits& limits) {
  Outcome outcome;
  supervise(child.container, child.streams, input, limits, kIgnore, outcome);
  return outcome;
}

void both_streams_and_the_status_come_back() {
  Child child = start([] { return write_text(1, "out") + write_text(2, "err") + 3; });
  const Outcome outcome = supervised(child, {}, {});
  CHECK(text_of(outcome.exchange.of(1)) == "out" && text_of(outcome.exchange.of(2)) == "err");
  CHECK(child.container.returncode == 3);
  CHECK(outcome.limit == Limit::kNone && !outcome.timed_out);
}

void megabytes_go_through_both_ways_at_once() {
  std::string data(5 << 20, 0);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761U >> 13);
  Child child = start(copy_stdin);
  const Outcome outcome = supervised(child, data, {});
  CHECK(text_of(outcome.exchange.of(1)) == data);
  CHECK(child.container.returncode == 0);
}

void a_reader_that_has_gone_raises_no_signal() {
  Child child = start([] { return close(0); });
  const std::string data(1 << 20, 'x');
  supervised(child, data, {});
  CHECK(child.container.returncode == 0);
  sigset_t pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGPIPE) == 0);
}

int nap(long milliseconds) {
  const timespec time{milliseconds / 1000, milliseconds % 1000 * 1000000};
  return nanosleep(&time, nullptr);
}

void only_what_lasts_is_told_of_and_once() {
  int told = 0;
  RunLimits limits;
  limits.lasting = [&told] { ++told; };
  Child brief = start([] { return 0; });
  supervised(brief, {}, limits);
  CHECK(told <= 1);  // a slow machine may take its time for even that
  told = 0;
  Child lasting =
      start([] { return write_text(1, "a") + nap(100) + write_text(1, "b") + nap(100); });
  supervised(lasting, {}, limits);
  CHECK(told == 1);
}

void a_timeout_kills_and_keeps_what_came() {
  Child child = start([] { return write_text(1, "so far") + pause(); });
  RunLimits limits;
  limits.timeout = now_ns() + kSecond / 5;
  const Outcome outcome = supervised(child, {}, limits);
  CHECK(outcome.timed_out && outcome.limit == Limit::kNone);
  CHECK(child.container.returncode == -SIGKILL);
  CHECK(text_of(outcome.exchange.of(1)) == "so far");
}

void a_wall_time_limit_is_no_timeout() {
  Child child = start([] { return pause(); });
  RunLimits limits;
  limits.wall = now_ns() + kSecond / 5;
  const Outcome outcome = supervised(child, {}, limits);
  CHECK(!outcome.timed_out && outcome.limit == Limit::kWallTime);
}

void output_beyond_its_limit_ends_it_with_exactly_the_limit() {
  Child child = start([] {
    while (write_text(1, "0123456789") == 0 && write_text(2, "abc") == 0) {
    }
    return 0;
  });
  RunLimits limits;
  limits.output = 1000;
  const Outcome outcome = supervised(child, {}, limits);
  CHECK(outcome.limit == Limit::kOutput);
  CHECK(outcome.exchange.of(1).size() + outcome.exchange.of(2).size() == 1000);
}

void output_of_exactly_the_limit_is_fine() {
  Child child = start([] { return write_text(1, "0123456789"); });
  RunLimits limits;
  limits.output = 10;
  const Outcome outcome = supervised(child, {}, limits);
  CHECK(outcome.limit == Limit::kNone && text_of(outcome.exchange.of(1)) == "0123456789");
}

void somebody_else_who_holds_the_pipe_doesnt_keep_us() {
  Pipe tell = make_pipe();
  Child child = start([&] {
    const pid_t other = fork();
    if (other == 0) {
      sleep(30);
      _exit(0);
    }
    if (::write(tell.write.get(), &other, sizeof other) < 0) return 1;
    return write_text(1, "quick");
  });
  const int64_t begun = now_ns();
  const Outcome outcome = supervised(child, {}, {});
  CHECK(text_of(outcome.exchange.of(1)) == "quick");
  CHECK(now_ns() - begun < 20 * kSecond);
  pid_t other = 0;
  if (::read(tell.read.get(), &other, sizeof other) == sizeof other) ::kill(other, SIGKILL);
}

void an_interruption_that_throws_ends_the_child_too() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
  const itimerval soon{{0, 50000}, {0, 50000}};
  const itimerval never{};
  pid_t pid = 0;
  bool thrown = false;
  try {
    Child child = start([] { return pause(); });
    pid = child.container.pid;
    setitimer(ITIMER_REAL, &soon, nullptr);
    Outcome outcome;
    supervise(
        child.container, child.streams, {}, {}, [] { throw std::runtime_error("stop"); }, outcome);
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  CHECK(thrown);
  CHECK(pid > 0 && ::kill(pid, 0) < 0);
}

// What is passed on, a step at a time, as the limit thread does for many.
struct Passed {
  Child child;
  Streams counted;
  Pipe out = make_pipe(), err = make_pipe();
  Contained whom{child.container, Contained::kLooksOn};
  Outcome outcome;
  std::optional<Supervisor> machine;

  Passed(Child whose, uint64_t most, int64_t until = 0) : child(std::move(whose)) {
    counted.output = std::move(child.streams.output);
    counted.error = std::move(child.streams.error);
    counted.output_to = std::move(out.write);
    counted.error_to = std::move(err.write);
    RunLimits limits;
    limits.output = most;
    if (until != 0) limits.wall = until;
    machine.emplace(whom, counted, std::string_view{}, limits, outcome);
  }
  Passed(const Passed&) = delete;
  Passed& operator=(const Passed&) = delete;

  // False when nothing has come for so long.
  bool step(int milliseconds) {
    std::vector<pollfd> polls;
    machine->add_to(polls);
    const int ready = poll(polls.data(), polls.size(), milliseconds);
    machine->step(polls.data());
    return ready > 0;
  }
  void pass_all() {
    while (!machine->gone()) step(1000);
  }
  // What has come so far.
  static std::string taken(const Pipe& pipe) {
    int there = 0;
    ioctl(pipe.read.get(), FIONREAD, &there);
    std::string all(static_cast<size_t>(there), 0);
    CHECK(there == 0 || ::read(pipe.read.get(), all.data(), all.size()) == there);
    return all;
  }
};

void what_is_passed_on_isnt_kept_and_its_end_is() {
  Passed passed(start([] { return write_text(1, "out") + write_text(2, "err") + 3; }), 1000);
  passed.pass_all();
  CHECK(Passed::taken(passed.out) == "out" && Passed::taken(passed.err) == "err");
  CHECK(passed.outcome.exchange.of(1).taken() == 3 && passed.outcome.exchange.of(1).size() == 0);
  CHECK(passed.outcome.limit == Limit::kNone);
  CHECK(!passed.child.container.reaped);  // that is another's
  CHECK(passed.child.container.reap(true) && passed.child.container.returncode == 3);
}

void exactly_the_limit_is_passed_on_of_too_much() {
  Passed passed(start([] {
                  while (write_text(1, "0123456789") == 0 && write_text(2, "abc") == 0) {
                  }
                  return 0;
                }),
                1000);
  passed.pass_all();
  CHECK(passed.outcome.limit == Limit::kOutput);
  CHECK(Passed::taken(passed.out).size() + Passed::taken(passed.err).size() == 1000);
  CHECK(passed.child.container.reap(true) && passed.child.container.returncode == -SIGKILL);
}

void a_slow_reader_holds_the_program_up_and_misses_nothing() {
  std::string all;
  for (int i = 0; i < 50000; ++i) all += std::to_string(i) + "\n";
  Passed passed(start([&all] {
                  for (size_t at = 0; at < all.size();) {
                    const ssize_t now = ::write(1, all.data() + at, all.size() - at);
                    if (now < 0) return 1;
                    at += static_cast<size_t>(now);
                  }
                  return 0;
                }),
                all.size());
  while (passed.step(300)) {
  }
  CHECK(!passed.child.container.reap(false));  // 64 KiB in each of two pipes, and it waits
  std::string came;
  while (!passed.machine->gone()) {
    came += Passed::taken(passed.out);
    passed.step(10);
  }
  CHECK(came + Passed::taken(passed.out) == all);
  CHECK(passed.outcome.limit == Limit::kNone);
  CHECK(passed.child.container.reap(true) && passed.child.container.returncode == 0);
}

void a_reader_that_has_closed_is_the_programs_broken_pipe() {
  Passed passed(start([] {
                  while (write_text(1, "0123456789") == 0) {
                  }
                  return 0;
                }),
                UINT64_MAX);
  const auto before = signal(SIGPIPE, SIG_IGN);  // the limit thread has all blocked
  passed.step(1000);
  passed.out.read.reset();
  passed.pass_all();
  signal(SIGPIPE, before);
  CHECK(passed.child.container.reap(true) && passed.child.container.returncode == -SIGPIPE);
}

// Another has the write end as well, so that its end never comes.
void what_a_pipe_holds_at_the_end_is_passed_on_first() {
  Pipe tell = make_pipe();
  const std::string much(60000, 'x');
  Passed passed(start([&] {
                  const pid_t other = fork();
                  if (other == 0) {
                    sleep(30);
                    _exit(0);
                  }
                  if (::write(tell.write.get(), &other, sizeof other) < 0) return 1;
                  return write_text(1, much.c_str()) + write_text(1, much.c_str());
                }),
                UINT64_MAX);
  while (passed.step(300)) {
  }
  CHECK(!passed.machine->gone());
  std::string came;
  while (!passed.machine->gone()) {
    came += Passed::taken(passed.out);
    passed.step(1000);
  }
  CHECK(came + Passed::taken(passed.out) == much + much);
  pid_t other = 0;
  if (::read(tell.read.get(), &other, sizeof other) == sizeof other) ::kill(other, SIGKILL);
}

void what_another_has_reaped_and_closed_is_gone() {
  Passed passed(start([] { return write_text(1, "so far"); }), 1000);
  std::vector<pollfd> polls;
  passed.machine->add_to(polls);
  CHECK(passed.child.container.reap(true));
  const int number = passed.child.container.pidfd.get();
  passed.child.container.pidfd.reset();
  const Fd stranger(dup2(passed.out.read.get(), number));  // it has that number now
  passed.machine->add_to(polls);
  CHECK(passed.machine->gone() && Passed::taken(passed.out) == "so far");
}

// Others had their turn between the answers and the step, and that took long.
void what_has_ended_before_its_wall_time_had_no_limit() {
  Passed passed(start([] { return 0; }), 1000, now_ns() + kSecond / 10);
  std::vector<pollfd> polls;
  passed.machine->add_to(polls);  // with no answers: as if it had been asked before the end
  pollfd ended{passed.child.container.pidfd.get(), POLLIN, 0};
  CHECK(poll(&ended, 1, 10000) == 1);
  usleep(150000);
  passed.machine->step(polls.data());
  CHECK(passed.outcome.limit == Limit::kNone);
  CHECK(passed.child.container.reap(true) && passed.child.container.returncode == 0);
}

void the_limit_thread_holds_those_of_many() {
  std::vector<std::shared_ptr<Guarded>> all;
  for (int i = 0; i < 40; ++i) {
    Child child = start([] { return pause(); });
    all.push_back(std::make_shared<Guarded>());
    all.back()->container = std::move(child.container);
    RunLimits limits;
    limits.wall = now_ns() + kSecond / 10 * (1 + i % 3);
    watch_over(all.back(), limits, {});
  }
  for (const auto& one : all) {
    pollfd ended{one->container.pidfd.get(), POLLIN, 0};
    CHECK(poll(&ended, 1, 20000) == 1);
    const std::lock_guard lock(one->lock);
    CHECK(one->container.reap(true) && one->outcome.limit == Limit::kWallTime);
    one->container.pidfd.reset();
  }
  for (const auto& one : all) {  // none is kept
    const int64_t begun = now_ns();
    while (one.use_count() > 1 && now_ns() - begun < 20 * kSecond) nap(1);
    CHECK(one.use_count() == 1);
  }
}

void an_output_takes_no_more_than_its_room() {
  Pipe pipe = make_pipe();
  CHECK(write_text(pipe.write.get(), "0123456789") == 0);
  Output output;
  uint64_t room = 4;
  CHECK(output.take_from(pipe.read.get(), room));
  CHECK(room == 0 && text_of(output) == "0123");
}

void the_end_of_a_stream_and_a_closed_descriptor_are_ends() {
  Pipe pipe = make_pipe();
  pipe.write.reset();
  Output output;
  uint64_t room = UINT64_MAX;
  CHECK(!output.take_from(pipe.read.get(), room));
  CHECK(!output.take_from(-1, room));
  CHECK(output.size() == 0);
}

void every_limit_has_its_word() {
  CHECK(limit_name(Limit::kNone) == nullptr);
  CHECK(std::string(limit_name(Limit::kMemory)) == "memory");
  CHECK(std::string(limit_name(Limit::kWallTime)) == "wall_time");
  CHECK(std::string(limit_name(Limit::kCpuTime)) == "cpu_time");
  CHECK(std::string(limit_name(Limit::kOutput)) == "output");
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  SHOW(both_streams_and_the_status_come_back);
  SHOW(megabytes_go_through_both_ways_at_once);
  SHOW(a_reader_that_has_gone_raises_no_signal);
  SHOW(only_what_lasts_is_told_of_and_once);
  SHOW(a_timeout_kills_and_keeps_what_came);
  SHOW(a_wall_time_limit_is_no_timeout);
  SHOW(output_beyond_its_limit_ends_it_with_exactly_the_limit);
  SHOW(output_of_exactly_the_limit_is_fine);
  SHOW(somebody_else_who_holds_the_pipe_doesnt_keep_us);
  SHOW(an_interruption_that_throws_ends_the_child_too);
  SHOW(what_is_passed_on_isnt_kept_and_its_end_is);
  SHOW(exactly_the_limit_is_passed_on_of_too_much);
  SHOW(a_slow_reader_holds_the_program_up_and_misses_nothing);
  SHOW(a_reader_that_has_closed_is_the_programs_broken_pipe);
  SHOW(what_a_pipe_holds_at_the_end_is_passed_on_first);
  SHOW(what_another_has_reaped_and_closed_is_gone);
  SHOW(what_has_ended_before_its_wall_time_had_no_limit);
  SHOW(the_limit_thread_holds_those_of_many);
  SHOW(an_output_takes_no_more_than_its_room);
  SHOW(the_end_of_a_stream_and_a_closed_descriptor_are_ends);
  SHOW(every_limit_has_its_word);
  return fact::result();
}
