// What a container used, and whether the OOM killer came.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "parent/cgroup/cgroup.h"
#include "parent/cgroup/figures.h"
#include "parent/failure.h"

namespace pyminicon::parent {
namespace {

void cpu_v2(const std::optional<std::string>& text, CgroupUsage& usage) {
  const auto seconds = [&](std::string_view key) -> std::optional<double> {
    const auto microseconds = field(text, key);
    return microseconds ? std::optional(static_cast<double>(*microseconds) * 1e-6) : std::nullopt;
  };
  usage.cpu = seconds("usage_usec");
  usage.user = seconds("user_usec");
  usage.system = seconds("system_usec");
}

// cpuacct.usage is exact; usage_user and usage_sys count whole ticks where the kernel samples, and
// miss a short process altogether. So these give only the proportion, as cputime_adjust does it.
void cpu_v1(std::optional<uint64_t> total, std::optional<uint64_t> user,
            std::optional<uint64_t> system, CgroupUsage& usage) {
  if (!total) return;
  usage.cpu = static_cast<double>(*total) * 1e-9;
  if (!user || !system) return;
  const auto ticks = static_cast<double>(*user) + static_cast<double>(*system);
  const double share = ticks > 0 ? static_cast<double>(*user) / ticks : 1.0;
  usage.user = *usage.cpu * share;
  usage.system = *usage.cpu - *usage.user;
}

template <typename Number>
void take_off(std::optional<Number>& all, std::optional<Number> before) {
  if (all && before) *all -= std::min(*all, *before);
}

void add(std::optional<uint64_t>& sum, uint64_t more) { sum = sum.value_or(0) + more; }

// "8:0 rbytes=90430464 wbytes=299008000 rios=8950 ...", a line a device.
void io_v2(const std::optional<std::string>& text, CgroupUsage& usage) {
  if (!text) return;
  usage.io_read = usage.io_written = 0;
  for (size_t at = 0; (at = text->find("bytes=", at)) != std::string::npos; at += 6) {
    const auto bytes = number(text->substr(at + 6, text->find_first_of(" \n", at) - at - 6));
    if (!bytes || at == 0) continue;
    if ((*text)[at - 1] == 'r') add(usage.io_read, *bytes);
    if ((*text)[at - 1] == 'w') add(usage.io_written, *bytes);
  }
}

// "8:0 Read 4096", a line for each device and direction, and "Total 4096" at the end.
void io_v1(const std::optional<std::string>& text, CgroupUsage& usage) {
  if (!text) return;
  usage.io_read = usage.io_written = 0;
  const auto sum = [&](std::string_view word, std::optional<uint64_t>& into) {
    for (size_t at = 0; (at = text->find(word, at)) != std::string::npos; at += word.size()) {
      const size_t digits = at + word.size();
      if (auto bytes = number(text->substr(digits, text->find('\n', digits) - digits))) {
        add(into, *bytes);
      }
    }
  };
  sum(" Read ", usage.io_read);
  sum(" Write ", usage.io_written);
}

}  // namespace

// All that has been counted in there, whoever it was.
CgroupUsage Cgroup::counted() const {
  CgroupUsage usage;
  count_time(usage);
  count_io(usage);
  if (const Place* place = with(kRoleMemory)) {
    const bool v2 = (place->roles & kRoleV2) != 0;  // memory.peak since 5.19
    usage.memory_peak = number(text_of(*place, v2 ? kMemoryPeakV2 : kMemoryPeakV1));
  }
  if (const Place* place = with(kRolePids)) {
    usage.pids_peak = number(text_of(*place, kPidsPeak));  // since 6.11, v1 and v2
  }
  return usage;
}

void Cgroup::count_time(CgroupUsage& usage) const {
  const Place* place = with(kRoleCpuTime);
  if (place == nullptr) return;
  if ((place->roles & kRoleV2) != 0) {
    cpu_v2(text_of(*place, kCpuStatV2), usage);
  } else {
    cpu_v1(number(text_of(*place, kCpuUsageV1)), number(text_of(*place, kCpuUserV1)),
           number(text_of(*place, kCpuSystemV1)), usage);
  }
}

void Cgroup::count_io(CgroupUsage& usage) const {
  const Place* place = with(kRoleIo);
  if (place == nullptr) return;
  const bool v2 = (place->roles & kRoleV2) != 0;
  (v2 ? io_v2 : io_v1)(text_of(*place, v2 ? kIoV2 : kIoV1), usage);
}

CgroupUsage Cgroup::usage() const {
  CgroupUsage usage = counted();
  take_off(usage.cpu, before_.cpu);
  take_off(usage.user, before_.user);
  take_off(usage.system, before_.system);
  take_off(usage.io_read, before_.io_read);
  take_off(usage.io_written, before_.io_written);
  return usage;
}

std::optional<std::string> Cgroup::text_of(const Place& place, const char* file) const {
  const int fd = open_file(place, file);
  return fd >= 0 ? read_again(fd) : read_file(place.path + "/" + file);
}

// -1 where it isn't one that is kept open.
int Cgroup::open_file(const Place& place, const char* file) const {
  return open_ ? open_->find(static_cast<size_t>(&place - places_.data()), file) : -1;
}

CgroupPresent Cgroup::present() const {
  CgroupPresent present;
  if (const Place* place = with(kRoleMemory)) {
    const bool v2 = (place->roles & kRoleV2) != 0;
    present.memory = number(text_of(*place, v2 ? kMemoryV2 : kMemoryV1));
  }
  if (const Place* place = with(kRolePids)) {
    present.pids = number(read_file(place->path + "/pids.current"));
  }
  return present;
}

std::optional<double> Cgroup::cpu_seconds() const {
  const Place* place = with(kRoleCpuTime);
  if (place == nullptr) return std::nullopt;
  const bool v2 = (place->roles & kRoleV2) != 0;
  const auto text = text_of(*place, v2 ? kCpuStatV2 : kCpuUsageV1);
  const auto ticks = v2 ? field(text, "usage_usec") : number(text);
  if (!ticks) return std::nullopt;
  std::optional seconds = static_cast<double>(*ticks) * (v2 ? 1e-6 : 1e-9);
  take_off(seconds, before_.cpu);
  return seconds;
}

void Cgroup::watch_oom() {
  const Place* place = with(kRoleMemory);
  if (place == nullptr) return;
  if ((place->roles & kRoleV2) != 0) {
    const std::string path = place->path + "/memory.events";
    oom_fd_ = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!oom_fd_) throw LaunchFailure(errno, Stage::kCgroup, path);
    clear_oom_event();  // poll answers at once until the file has been read
    return;
  }
  const std::string path = place->path + "/memory.oom_control";
  const Fd control(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!control) throw LaunchFailure(errno, Stage::kCgroup, path);
  oom_fd_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const std::string wish = std::to_string(oom_fd_.get()) + " " + std::to_string(control.get());
  const int error = !oom_fd_ ? errno : write_file(place->path + "/cgroup.event_control", wish);
  if (error != 0) throw LaunchFailure(error, Stage::kCgroup, place->path + "/cgroup.event_control");
}

short Cgroup::oom_poll_events() const {
  const Place* place = with(kRoleMemory);
  return place != nullptr && (place->roles & kRoleV2) != 0 ? POLLPRI : POLLIN;
}

void Cgroup::clear_oom_event() {
  if (!oom_fd_) return;
  char text[1024];
  // v1: resets the eventfd. v2: reading again from the start is what arms poll.
  const bool file = oom_poll_events() == POLLPRI;
  if (file && ::lseek(oom_fd_.get(), 0, SEEK_SET) < 0) return;
  while (::read(oom_fd_.get(), text, sizeof text) < 0 && errno == EINTR) {
  }
}

bool Cgroup::oom_killed() const {
  const Place* place = with(kRoleMemory);
  if (place == nullptr) return false;
  const bool v2 = (place->roles & kRoleV2) != 0;
  // v2 counts in all cgroups above as well. What hits a command of a divided one is the command's.
  const char* events = divided_ ? "init/memory.events" : kMemoryEventsV2;
  const auto text = text_of(*place, v2 ? events : kMemoryEventsV1);
  return field(text, "oom_kill").value_or(0) > 0;
}

bool Cgroup::oom_killed_within(int patience_us) const {
  // v2 notifies again after the kill, and of much that isn't one (`max`: the limit was reached and
  // page cache went): waiting for a kill each time would be waiting for nothing.
  const bool tells_again = (oom_poll_events() & POLLPRI) != 0;
  Backoff backoff(tells_again ? 0 : patience_us);
  do {
    if (oom_killed()) return true;
  } while (backoff.sleep());
  return false;
}

void Cgroup::after_exec() {
  const Place* place = with(kRoleMemory);
  // Before 4.19 there is no such file; then the supervisor ends the container by itself.
  if (place != nullptr && (place->roles & kRoleV2) != 0 && oom_fd_) {
    write_file(place->path + "/memory.oom.group", "1");
  }
}

}  // namespace pyminicon::parent
