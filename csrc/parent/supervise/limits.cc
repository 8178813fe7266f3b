#include "parent/supervise/limits.h"

#include <unistd.h>

#include <algorithm>

namespace pyminicon::parent {

int64_t Limits::next() const { return std::min(wall, cpu > 0 ? look_at_ : kNever); }

Limit Limits::reached(const Cgroup* cgroup, int64_t now) {
  if (now >= wall) return Limit::kWallTime;
  if (cgroup != nullptr && out_of_cpu_time(*cgroup, now)) return Limit::kCpuTime;
  return Limit::kNone;
}

bool Limits::out_of_cpu_time(const Cgroup& cgroup, int64_t now) {
  constexpr int64_t kSoonest = 2000000;
  static const auto processors = static_cast<double>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  if (cpu <= 0 || now < look_at_) return false;
  const double left = cpu - cgroup.cpu_seconds().value_or(0);
  const auto soonest = static_cast<int64_t>(left / processors * 1e9);  // all of them at work on it
  look_at_ = now + std::max(soonest, kSoonest);
  return left <= 0;
}

pollfd memory_event(const Cgroup* cgroup) {
  if (cgroup == nullptr || cgroup->oom_fd() < 0) return {-1, 0, 0};
  return {cgroup->oom_fd(), cgroup->oom_poll_events(), 0};
}

bool killed_for_memory(Cgroup& cgroup) {
  constexpr int kPatienceUs = 20000;
  cgroup.clear_oom_event();
  return cgroup.oom_killed_within(kPatienceUs);
}

Limit limit_of_ended(const Launched& container, Limit noticed) {
  if (noticed != Limit::kNone || container.memory_limit == 0) return noticed;
  return container.cgroup && container.cgroup->oom_killed() ? Limit::kMemory : noticed;
}

const char* limit_name(Limit limit) {
  switch (limit) {
    case Limit::kNone:
      return nullptr;
    case Limit::kMemory:
      return "memory";
    case Limit::kWallTime:
      return "wall_time";
    case Limit::kCpuTime:
      return "cpu_time";
    case Limit::kOutput:
      return "output";
  }
  return nullptr;
}

}  // namespace pyminicon::parent
