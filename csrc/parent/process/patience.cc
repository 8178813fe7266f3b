#include "parent/process/patience.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <memory>

#include "parent/failure.h"
#include "parent/files/fd.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {
namespace {

struct Work {
  Fd over{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::exception_ptr error;
  std::function<void()> work;

  void run() noexcept {
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    const uint64_t one = 1;
    if (::write(over.get(), &one, sizeof one) < 0) return;  // nobody looks any more
  }
};

// -1: as long as it takes.
int milliseconds_left(int64_t deadline, int most) {
  if (deadline == kNever) return most;
  const int64_t left = std::max<int64_t>(deadline - now_ns(), 0);
  const auto wait = static_cast<int>(std::min<int64_t>((left + 999999) / 1000000, 1 << 30));
  return most < 0 ? wait : std::min(wait, most);
}

}  // namespace

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void set_to_work(const std::function<void()>& work) {
  bool alone = true;
  try {
    begin_thread(work);
  } catch (const LaunchFailure&) {
    alone = false;
  }
  if (!alone) work();
}

bool done_within(const Patience& patience, std::function<void()> work) {
  const auto asked = std::make_shared<Work>();
  if (!asked->over) throw LaunchFailure(errno, Stage::kPrepare, "eventfd");
  asked->work = std::move(work);
  set_to_work([asked] { asked->run(); });
  // A moment more: what doesn't hang is done with by then, and nothing of it stays behind.
  constexpr int64_t kMoment = 100000000;  // ns
  const int over = asked->over.get();
  if (!readable_within(patience, over) && !readable_within({now_ns() + kMoment}, over))
    return false;
  if (asked->error) std::rethrow_exception(asked->error);
  return true;
}

bool readable_within(const Patience& patience, int fd, int most_ms) {
  pollfd watched[] = {{fd, POLLIN, 0}, {patience.cancel, POLLIN, 0}};
  for (;;) {
    const int wait = milliseconds_left(patience.deadline, most_ms);
    const int ready = poll(watched, 2, wait);
    if (ready > 0) return watched[0].revents != 0;
    if (ready == 0) return false;
    if (errno == EINTR && patience.interrupted) patience.interrupted();
  }
}

}  // namespace pyminicon::parent
