#include "bind/beside.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <utility>

#include "bind/run.h"

namespace pyminicon::bind {

// Nothing in here is Python's: the thread that launches may not touch that.
struct Errand {
  std::shared_ptr<parent::PlanSpec> spec;
  std::optional<StartRequest> request;
  Seconds wall_time;
  double cpu_time;
  uint64_t max_output;
  std::unique_ptr<Handle> handle = std::make_unique<Handle>();
  std::exception_ptr error;
  std::atomic<bool> over{false};  // written last: all else is the asker's from then on

  void launch() noexcept;
};

void Errand::launch() noexcept {
  try {
    parent::LaunchOptions& options = request->options;
    if (parent::now_ns() >= options.deadline) throw parent::SetupTimeout{};  // it has waited long
    handle->container() = parent::launch(*spec, options);
    hold_limits(*handle, wall_time, cpu_time, max_output);
  } catch (...) {
    error = std::current_exception();
    handle.reset();
  }
  request.reset();
  over.store(true, std::memory_order_release);
}

Pending::Pending(std::shared_ptr<parent::LaunchPool> pool, std::shared_ptr<Errand> errand)
    : pool_(std::move(pool)), errand_(std::move(errand)) {
  number_ = pool_->add([errand = errand_] { errand->launch(); });
}

// What a thread is at keeps the errand, and is undone by it if it is the last to let go.
Pending::~Pending() { pool_->withdraw(number_); }

// A traceback may keep this for long: its pipes are closed here.
bool Pending::withdraw() {
  if (!pool_->withdraw(number_)) return false;
  errand_->request.reset();
  errand_->handle.reset();
  return true;
}

bool Pending::over() const { return errand_->over.load(std::memory_order_acquire); }

Released<Handle> Pending::result() {
  if (!over()) throw std::logic_error("the launch isn't over");
  if (errand_->error) std::rethrow_exception(std::exchange(errand_->error, nullptr));
  return Released<Handle>(errand_->handle.release());
}

Released<Pending> Launches::begin(std::shared_ptr<parent::PlanSpec> spec, const py::tuple& told,
                                  const py::tuple& stdio, std::vector<int> pass, bool terminal,
                                  bool trace, Seconds wall_time, double cpu_time,
                                  uint64_t max_output, Seconds patience) {
  auto errand = std::make_shared<Errand>();
  errand->wall_time = wall_time;
  errand->cpu_time = cpu_time;
  errand->max_output = max_output;
  const int64_t begun = parent::now_ns();
  errand->request.emplace(*errand->handle, *spec, told, stdio, std::move(pass));
  errand->spec = std::move(spec);
  parent::LaunchOptions& options = errand->request->options;
  options.terminal = terminal;
  options.trace = trace;
  options.begun = begun;
  options.deadline = std::min(deadline_in(wall_time, begun), deadline_in(patience, begun));
  return Released<Pending>(new Pending(pool_, std::move(errand)));
}

}  // namespace pyminicon::bind
