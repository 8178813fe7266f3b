// One cgroup for command after command: to make one and to remove it takes longer than everything
// else that a short command needs.
//
// It is another command's only where nothing tells the two apart from two cgroups. So it has to be
// empty, in every tree, when it is taken and not when it was left; nobody was killed for memory in
// there; what is charged to it still (page cache, a tmpfs's files) is hardly more than the kernel
// charges ahead; and every figure begins anew, which a peak of processes can't.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "parent/cgroup/cgroup.h"
#include "parent/cgroup/figures.h"

namespace pyminicon::parent {
namespace {

struct File {
  uint32_t role;
  const char* v1;  // nullptr: there is none
  const char* v2;
  int flags = O_RDONLY;
};

constexpr File kFiles[] = {
    {kRoleMemory, kMemoryV1, kMemoryV2},
    {kRoleMemory, kMemoryPeakV1, kMemoryPeakV2, O_RDWR},
    {kRoleMemory, kMemoryEventsV1, kMemoryEventsV2},
    {kRoleCpuTime, kCpuUsageV1, kCpuStatV2, O_RDWR},
    {kRoleCpuTime, kCpuUserV1, nullptr},
    {kRoleCpuTime, kCpuSystemV1, nullptr},
    {kRoleIo, kIoV1, kIoV2},
    {kRolePids, kPidsPeak, kPidsPeak},
    {kRolePids, kPidsNow, nullptr},
    {kRoleV2, nullptr, kCgroupEventsV2},
    {~0U, kTasksV1, kProcessesV2, O_WRONLY},
};

// What every processor charges ahead (MEMCG_CHARGE_BATCH pages), as for a cgroup that was just
// made, and what of the kernel's own goes only after a grace period.
uint64_t charged_still() {
  static const auto processors = std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));
  const auto ahead = static_cast<uint64_t>(64 * processors * sysconf(_SC_PAGESIZE));
  return std::min<uint64_t>(ahead + (256 << 10), 1 << 20);
}

std::atomic<bool> refused_on_v2{false};

}  // namespace

bool Cgroup::fits(const Cgroup& container, bool watch_oom) const {
  if (!is_mine() || any() == nullptr || watch_oom != static_cast<bool>(oom_fd_)) return false;
  return beside_ == container.places_.size();  // else it has been given a freezer since
}

Renewal Cgroup::renew(const Cgroup& container, bool watch_oom) {
  if (!fits(container, watch_oom)) return Renewal::kNever;
  if (!open_) keep_open();
  if (!peak_can_begin_anew() || is_taken() || !tells_of_nobody()) return Renewal::kNever;
  if (!holds_little()) return Renewal::kNotYet;
  if (!begin_anew() || !open_joins() || !join_beside(container)) {
    close_join_fds();
    return Renewal::kNever;
  }
  clear_oom_event();  // of an end of memory that met others
  return Renewal::kDone;
}

void Cgroup::keep_open() {
  open_ = OpenFiles::make();
  if (!open_) return;
  for (size_t i = 0; i < places_.size(); ++i) {
    const bool v2 = (places_[i].roles & kRoleV2) != 0;
    open_->add(i, "", places_[i].path, O_PATH | O_DIRECTORY);
    for (const File& file : kFiles) {
      const char* name = v2 ? file.v2 : file.v1;
      if ((places_[i].roles & file.role) == 0 || name == nullptr) continue;
      open_->add(i, name, places_[i].path + "/" + name, file.flags);
    }
  }
}

// Whether somebody is in there, or a cgroup of somebody's. Who is in any of the trees has joined
// the first of them before, which alone is asked. The list of v1 is made when it is read for the
// first time, and kept for the file that was read, so it is a file of its own each time; to count
// them is quicker.
bool Cgroup::is_taken() const {
  for (const Place& place : places_) {
    const int directory = open_file(place, "");
    struct stat about{};
    const int failed =
        directory >= 0 ? ::fstat(directory, &about) : ::stat(place.path.c_str(), &about);
    if (failed != 0 || about.st_nlink != 2) return true;  // children
  }
  const Place& first = places_.front();
  if ((first.roles & kRoleV2) != 0) return field(text_of(first, kCgroupEventsV2), "populated") != 0;
  if ((first.roles & kRolePids) != 0) return number(text_of(first, kPidsNow)) != 0;
  const Fd tasks(::open((first.path + "/" + kTasksV1).c_str(), O_RDONLY | O_CLOEXEC));
  char somebody;
  return !tasks || ::read(tasks.get(), &somebody, 1) != 0;
}

bool Cgroup::open_joins() {
  for (const Place& place : places_) {
    const char* const name = join_file(place);
    if (const int fd = open_file(place, name); fd >= 0) {
      joins_.push_back(fd);
    } else if (!open_to_join(place.path + "/" + name)) {
      return false;
    }
  }
  return true;
}

// Neither that somebody was killed for memory nor that there was more than one process.
bool Cgroup::tells_of_nobody() const {
  const Place* pids = with(kRolePids);
  return !oom_killed() && (pids == nullptr || number(text_of(*pids, kPidsPeak)).value_or(0) <= 1);
}

bool Cgroup::holds_little() const {
  const Place* place = with(kRoleMemory);
  if (place == nullptr) return true;
  const bool v2 = (place->roles & kRoleV2) != 0;
  const auto left = number(text_of(*place, v2 ? kMemoryV2 : kMemoryV1));
  if (!left || *left > charged_still()) return false;
  if (!v2 || with(kRoleIo) != place) return true;
  // v2 counts it in here when such a page is written at last.
  const auto about = read_file(place->path + "/memory.stat");
  return field(about, "file_dirty") == 0 && field(about, "file_writeback") == 0;
}

// v1 takes a 0; v2 has a peak for each open file since 6.12, and before 5.19 none at all.
bool Cgroup::peak_can_begin_anew() const {
  const Place* place = with(kRoleMemory);
  if (place == nullptr || (place->roles & kRoleV2) == 0) return true;
  return open_ && !refused_on_v2.load(std::memory_order_relaxed);
}

bool Cgroup::begin_anew() {
  if (const Place* place = with(kRoleMemory)) {
    const bool v2 = (place->roles & kRoleV2) != 0;
    if (v2 ? !begin_peak_anew_v2(*place) : !set_to_zero(*place, kMemoryPeakV1)) return false;
  }
  const Place* place = with(kRoleCpuTime);
  const bool v1 = place != nullptr && (place->roles & kRoleV2) == 0;
  if (v1 && !set_to_zero(*place, kCpuUsageV1)) return false;
  before_ = {};
  if (place != nullptr && !v1) count_time(before_);
  count_io(before_);
  return true;
}

// What was refused once is refused always, but for want of a descriptor.
bool Cgroup::begin_peak_anew_v2(const Place& place) const {
  if (set_to_zero(place, kMemoryPeakV2)) return true;
  const int error =
      ::access((place.path + "/" + kMemoryPeakV2).c_str(), W_OK) == 0 ? EINVAL : errno;
  const bool opened = open_file(place, kMemoryPeakV2) >= 0;
  if (opened || error == EACCES) refused_on_v2 = true;
  return error == ENOENT;
}

bool Cgroup::set_to_zero(const Place& place, const char* file) const {
  const int fd = open_file(place, file);
  if (fd >= 0) return ::pwrite(fd, "0", 1, 0) == 1;
  return (place.roles & kRoleV2) == 0 && write_file(place.path + "/" + file, "0") == 0;
}

// What the container has besides, of which there is none for each command.
bool Cgroup::join_beside(const Cgroup& container) {
  for (const std::string& file : container.files_beside()) {
    if (!open_to_join(file)) return false;
  }
  return true;
}

}  // namespace pyminicon::parent
