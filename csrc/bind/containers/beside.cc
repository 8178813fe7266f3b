#include "bind/containers/beside.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <utility>

#include "bind/containers/run.h"

namespace pyminicon::bind {

// Nothing in here is Python's: the thread that launches may not touch that.
struct Launch {
  std::shared_ptr<parent::PlanSpec> spec;
  std::optional<StartRequest> start;
  Seconds wall_time;
  double cpu_time = 0;
  MostOutput max_output;
  std::unique_ptr<Handle> handle = std::make_unique<Handle>();
  std::exception_ptr error;
  std::atomic<bool> over{false};  // written last: all else is the asker's from then on

  void launch() noexcept;
};

void Launch::launch() noexcept {
  try {
    if (parent::now_ns() >= start->options.deadline) {
      throw parent::SetupTimeout{};  // it has waited long
    }
    start->launch_into(*handle, *spec);
    hold_limits(*handle, wall_time, cpu_time, max_output);
    await_commands(*handle);
  } catch (...) {
    error = std::current_exception();
    handle.reset();
  }
  start.reset();
  over.store(true, std::memory_order_release);
}

Pending::Pending(std::shared_ptr<parent::LaunchPool> pool, std::shared_ptr<Launch> launch)
    : pool_(std::move(pool)), launch_(std::move(launch)) {
  number_ = pool_->add([launch = launch_] { launch->launch(); });
}

// What a thread is at keeps the launch, and is undone by it if it is the last to let go.
Pending::~Pending() { pool_->withdraw(number_); }

// A traceback may keep this for long: its pipes are closed here.
bool Pending::withdraw() {
  if (!pool_->withdraw(number_)) return false;
  launch_->start.reset();
  launch_->handle.reset();
  return true;
}

bool Pending::over() const { return launch_->over.load(std::memory_order_acquire); }

Released<Handle> Pending::result() {
  if (!over()) throw std::logic_error("the launch isn't over");
  if (launch_->error) std::rethrow_exception(std::exchange(launch_->error, nullptr));
  return Released<Handle>(launch_->handle.release());
}

Released<Pending> Launches::begin(std::shared_ptr<parent::PlanSpec> spec, const Request& request) {
  auto launch = std::make_shared<Launch>();
  launch->wall_time = request.wall_time;
  launch->cpu_time = request.cpu_time;
  launch->max_output = request.max_output;
  const int64_t begun = parent::now_ns();
  launch->start.emplace(*launch->handle, *spec, request);
  launch->spec = std::move(spec);
  parent::LaunchOptions& options = launch->start->options;
  options.begun = begun;
  options.deadline =
      std::min(deadline_in(request.wall_time, begun), deadline_in(request.patience, begun));
  return Released<Pending>(new Pending(pool_, std::move(launch)));
}

}  // namespace pyminicon::bind
