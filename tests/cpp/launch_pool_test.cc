// Facts about parent/pool/launch_pool.h, with any work in the place of launches.
#include "parent/pool/launch_pool.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <vector>

#include "fact.h"

using namespace pyminicon::parent;

namespace {

using Numbers = std::vector<uint64_t>;

// Asks whenever the descriptor says so, until `count` are over or nothing comes for long.
Numbers await(LaunchPool& pool, size_t count) {
  Numbers all;
  while (all.size() < count) {
    pollfd watched{pool.fd(), POLLIN, 0};
    if (poll(&watched, 1, 10000) <= 0) break;
    for (const uint64_t number : pool.finished()) all.push_back(number);
  }
  return all;
}

size_t threads() {
  size_t count = 0;
  DIR* tasks = opendir("/proc/self/task");
  while (const dirent* one = readdir(tasks)) count += one->d_name[0] != '.' ? 1 : 0;
  closedir(tasks);
  return count;
}

bool within(int milliseconds, const std::function<bool()>& holds) {
  for (; milliseconds > 0 && !holds(); milliseconds -= 10) usleep(10000);
  return holds();
}

// Keeps every thread of the pool from what comes after it.
struct Barrier {
  explicit Barrier(LaunchPool& pool) {
    for (size_t i = 0; i < LaunchPool::most_threads(); ++i) {
      numbers.push_back(pool.add([this] {
        ++arrived;
        opened.wait();
      }));
    }
    CHECK(within(5000, [this] { return arrived == LaunchPool::most_threads(); }));
  }
  void open() { gate.set_value(); }

  std::atomic<size_t> arrived{0};
  std::promise<void> gate;
  std::shared_future<void> opened = gate.get_future().share();
  Numbers numbers;
};

void work_is_done_by_another_thread_and_told_by_the_descriptor() {
  LaunchPool pool;
  pthread_t who = pthread_self();
  const uint64_t number = pool.add([&who] { who = pthread_self(); });
  CHECK(await(pool, 1) == Numbers{number});
  CHECK(pthread_equal(who, pthread_self()) == 0);
  pollfd watched{pool.fd(), POLLIN, 0};
  CHECK(poll(&watched, 1, 0) == 0);
  CHECK(pool.finished().empty());
}

void all_that_is_asked_for_is_done_once() {
  LaunchPool pool;
  std::atomic<int> done{0};
  constexpr size_t kMany = 1000;
  for (size_t i = 0; i < kMany; ++i) pool.add([&done] { ++done; });
  CHECK(await(pool, kMany).size() == kMany);
  CHECK(done == kMany);
  CHECK(threads() <= 1 + LaunchPool::most_threads());
}

void signals_are_blocked_there_and_not_here() {
  LaunchPool pool;
  sigset_t there, here;
  sigemptyset(&there);
  pool.add([&there] { pthread_sigmask(SIG_BLOCK, nullptr, &there); });
  await(pool, 1);
  pthread_sigmask(SIG_BLOCK, nullptr, &here);
  CHECK(sigismember(&there, SIGTERM) == 1 && sigismember(&there, SIGCHLD) == 1);
  CHECK(sigismember(&here, SIGTERM) == 0);
}

void what_is_withdrawn_is_dropped_and_what_is_begun_can_t_be() {
  LaunchPool pool;
  Barrier barrier(pool);
  bool ran = false;
  auto held = std::make_shared<int>(0);
  const uint64_t number = pool.add([&ran, held] { ran = true; });
  CHECK(held.use_count() == 2);
  CHECK(pool.withdraw(number));
  CHECK(held.use_count() == 1);
  CHECK(!pool.withdraw(number));
  CHECK(!pool.withdraw(barrier.numbers[0]));
  barrier.open();
  CHECK(await(pool, barrier.numbers.size()).size() == barrier.numbers.size());
  CHECK(!ran);
}

void what_was_held_is_gone_before_anybody_hears_of_it() {
  LaunchPool pool;
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> seen = held;
  pool.add([held = std::move(held)] {});
  await(pool, 1);
  CHECK(seen.expired());
}

void closing_drops_what_waits_and_closes_the_descriptor() {
  auto pool = std::make_unique<LaunchPool>();
  const int fd = pool->fd();
  Barrier barrier(*pool);
  auto held = std::make_shared<int>(0);
  pool->add([held] {});
  pool.reset();  // what is begun goes on
  CHECK(held.use_count() == 1);
  CHECK(fcntl(fd, F_GETFD) < 0);
  barrier.open();
  CHECK(within(5000, [] { return threads() == 1; }));
}

void threads_that_have_nothing_to_do_end() {
  LaunchPool pool;
  pool.add([] {});
  await(pool, 1);
  CHECK(threads() == 2);
  CHECK(within(5000, [] { return threads() == 1; }));
  const uint64_t again = pool.add([] {});
  CHECK(await(pool, 1) == Numbers{again});
}

// The lock is held, by a thread that the child doesn't have, or isn't: nobody there may ask.
void a_forked_child_owns_nothing_and_leaves_it_alone() {
  auto pool = std::make_unique<LaunchPool>();
  Barrier barrier(*pool);
  const uint64_t number = pool->add([] {});
  const pid_t child = fork();
  if (child == 0) {
    const bool well = !pool->owned() && !pool->withdraw(number) && pool->finished().empty();
    pool.reset();
    LaunchPool own;
    own.add([] {});
    _exit(well && await(own, 1).size() == 1 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(pool->withdraw(number));
  barrier.open();
  await(*pool, barrier.numbers.size());
}

}  // namespace

int main() {
  SHOW(work_is_done_by_another_thread_and_told_by_the_descriptor);
  SHOW(all_that_is_asked_for_is_done_once);
  SHOW(signals_are_blocked_there_and_not_here);
  SHOW(what_is_withdrawn_is_dropped_and_what_is_begun_can_t_be);
  SHOW(what_was_held_is_gone_before_anybody_hears_of_it);
  SHOW(closing_drops_what_waits_and_closes_the_descriptor);
  within(5000, [] { return threads() == 1; });
  SHOW(threads_that_have_nothing_to_do_end);
  SHOW(a_forked_child_owns_nothing_and_leaves_it_alone);
  return fact::result();
}
