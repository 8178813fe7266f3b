#include "bind/beside.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <utility>

#include "bind/run.h"

namespace pyminicon::bind {

// Nothing in here is Python's: the thread that launches may not touch that.
struct LaunchRequest {
  std::shared_ptr<parent::PlanSpec> spec;
  std::optional<StartRequest> start;
  Seconds wall_time;
  double cpu_time;
  uint64_t max_output;
  std::unique_ptr<Handle> handle = std::make_unique<Handle>();
  std::exception_ptr error;
  std::atomic<bool> over{false};  // written last: all else is the asker's from then on

  void launch() noexcept;
};

void LaunchRequest::launch() noexcept {
  try {
    parent::LaunchOptions& options = start->options;
    if (parent::now_ns() >= options.deadline) throw parent::SetupTimeout{};  // it has waited long
    handle->container() = parent::launch(*spec, options);
    hold_limits(*handle, wall_time, cpu_time, max_output);
  } catch (...) {
    error = std::current_exception();
    handle.reset();
  }
  start.reset();
  over.store(true, std::memory_order_release);
}

Pending::Pending(std::shared_ptr<parent::LaunchPool> pool, std::shared_ptr<LaunchRequest> request)
    : pool_(std::move(pool)), request_(std::move(request)) {
  number_ = pool_->add([request = request_] { request->launch(); });
}

// What a thread is at keeps the request, and is undone by it if it is the last to let go.
Pending::~Pending() { pool_->withdraw(number_); }

// A traceback may keep this for long: its pipes are closed here.
bool Pending::withdraw() {
  if (!pool_->withdraw(number_)) return false;
  request_->start.reset();
  request_->handle.reset();
  return true;
}

bool Pending::over() const { return request_->over.load(std::memory_order_acquire); }

Released<Handle> Pending::result() {
  if (!over()) throw std::logic_error("the launch isn't over");
  if (request_->error) std::rethrow_exception(std::exchange(request_->error, nullptr));
  return Released<Handle>(request_->handle.release());
}

Released<Pending> Launches::begin(std::shared_ptr<parent::PlanSpec> spec,
                                  const py::tuple& exec_spec, const py::tuple& stdio,
                                  std::vector<int> pass, bool terminal, bool trace,
                                  Seconds wall_time, double cpu_time, uint64_t max_output,
                                  Seconds patience) {
  auto request = std::make_shared<LaunchRequest>();
  request->wall_time = wall_time;
  request->cpu_time = cpu_time;
  request->max_output = max_output;
  const int64_t begun = parent::now_ns();
  request->start.emplace(*request->handle, *spec, exec_spec, stdio, std::move(pass));
  request->spec = std::move(spec);
  parent::LaunchOptions& options = request->start->options;
  options.terminal = terminal;
  options.trace = trace;
  options.begun = begun;
  options.deadline = std::min(deadline_in(wall_time, begun), deadline_in(patience, begun));
  return Released<Pending>(new Pending(pool_, std::move(request)));
}

}  // namespace pyminicon::bind
