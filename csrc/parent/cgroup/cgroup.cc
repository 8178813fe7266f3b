#include "parent/cgroup/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "parent/cgroup/figures.h"
#include "parent/cgroup/file.h"
#include "parent/failure.h"
#include "parent/reaper/reaper.h"

namespace pyminicon::parent {
namespace {

// One count for the whole process: subinterpreters and threads share the pid that is in the name.
std::atomic<uint64_t> next_name{1};

std::string another_name(const CgroupSpec& spec) {
  return spec.prefix + "-" + std::to_string(next_name.fetch_add(1));
}

std::atomic<bool> outside{false};

std::string hint_for(int error, const std::string& remedy) {
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      return remedy;
    case ENOSPC:
    case EAGAIN:
      return "the cgroup above takes no further one (cgroup.max.descendants), or there are too "
             "many";
    case ENOENT:
      return "the cgroup above is gone, or doesn't give this controller to those below it";
    default:
      return {};
  }
}

bool may_do_without(const CgroupSpec::Directory& directory, int error) {
  return !directory.required && (error == EACCES || error == EPERM || error == EROFS ||
                                 error == ENOENT || error == ENOSPC || error == EAGAIN);
}

// Cgroups that something inside made. A container sees its own read-only, but it may have been
// given the tree as a volume. Depth first: a cgroup with children can't be removed.
void remove_children(const std::string& path) {
  for (const std::string& child : directories_in(path)) {
    remove_children(child);
    ::rmdir(child.c_str());
  }
}

}  // namespace

// EBUSY: a process is left, or (from 6.19 on) a dead one has been reaped by its parent but is still
// switching out on its CPU, where no file says so. ENOENT: somebody else was quicker.
bool remove_directory(const std::string& path, int patience_us) {
  Backoff backoff(patience_us);
  while (::rmdir(path.c_str()) != 0 && errno != ENOENT) {
    if (errno != EBUSY || !backoff.sleep()) return false;
    remove_children(path);
  }
  return true;
}

bool births_are_outside() { return outside.load(std::memory_order_relaxed); }

void have_births_outside() { outside = true; }

Cgroup::~Cgroup() {
  if (!places_.empty() && is_mine() && !remove(0) && !of_command_) {
    kill();
    remove();
  }
  hear_no_more();
}

void Cgroup::hear_no_more() {
  // The last close of a v1 eventfd has the kernel take the registration back: 20 us.
  if (oom_fd_) close_by_reaper(std::move(oom_fd_));
}

Cgroup::Cgroup(Cgroup&& other) noexcept { *this = std::move(other); }

Cgroup& Cgroup::operator=(Cgroup&& other) noexcept {
  // What this one had goes away with `other`.
  std::swap(places_, other.places_);
  std::swap(joins_, other.joins_);
  std::swap(join_fds_, other.join_fds_);
  std::swap(name_, other.name_);
  std::swap(late_freezer_, other.late_freezer_);
  std::swap(late_freezer_v2_, other.late_freezer_v2_);
  std::swap(v2_fd_, other.v2_fd_);
  std::swap(oom_fd_, other.oom_fd_);
  std::swap(owner_, other.owner_);
  std::swap(of_command_, other.of_command_);
  std::swap(has_clock_, other.has_clock_);
  std::swap(clock_apart_, other.clock_apart_);
  std::swap(divided_, other.divided_);
  std::swap(repeated_, other.repeated_);
  std::swap(beside_, other.beside_);
  std::swap(before_, other.before_);
  std::swap(open_, other.open_);
  return *this;
}

bool Cgroup::is_mine() const { return owner_ == ::getpid(); }

Cgroup Cgroup::make(const CgroupSpec& spec) {
  for (;;) {
    Cgroup made;
    made.owner_ = ::getpid();
    made.late_freezer_ = spec.late_freezer;
    made.late_freezer_v2_ = spec.late_freezer_v2;
    made.name_ = another_name(spec);
    if (!made.make_directories(spec, made.name_)) continue;  // taken: another copy of this library
    made.write_limits(spec);
    made.hold_devices();
    made.open_join_fds(spec.shared_memory_is_unsafe || births_are_outside());
    if (spec.watch_oom) made.watch_oom();
    return made;
  }
}

// False when the name is taken in one of the trees. What is shared has a number that nobody else's
// has, and may be there.
bool Cgroup::make_directories(const CgroupSpec& spec, const std::string& name) {
  places_.reserve(spec.directories.size());
  for (const auto& directory : spec.directories) {
    const bool shared = (directory.roles & kRoleShared) != 0;
    note_place(kWatchCgroups, directory.parent, spec.prefix);
    std::string path = directory.parent + "/" + (shared ? spec.prefix + "-0" : name);
    if (::mkdir(path.c_str(), 0755) != 0 && !(shared && errno == EEXIST)) {
      const int error = errno;
      if (error == EEXIST) return false;
      if (!may_do_without(directory, error)) {
        throw LaunchFailure(error, Stage::kCgroup, path, hint_for(error, spec.remedy));
      }
      path.clear();
    }
    places_.push_back({std::move(path), directory.bind, directory.roles});
  }
  return true;
}

// Of this container alone.
bool Cgroup::is_own(const Place& place) {
  return !place.path.empty() && (place.roles & kRoleShared) == 0;
}

void Cgroup::write_limits(const CgroupSpec& spec) {
  for (const auto& write : spec.writes) {
    const Place& place = places_.at(write.directory);
    if (place.path.empty()) continue;  // it goes without
    const std::string path = place.path + "/" + write.file;
    if (!is_own(place) && read_file(path) == write.value + "\n") continue;
    const int error = write_file(path, write.value);
    if (error != 0 && !(write.optional && error == ENOENT)) {
      throw LaunchFailure(error, Stage::kCgroup, path + ": " + write.value,
                          hint_for(error, spec.remedy));
    }
  }
}

void Cgroup::open_join_fds(bool born_outside) {
  for (const auto& place : places_) {
    if (place.path.empty() || (place.roles & kRoleShown) != 0) continue;
    const bool v2 = (place.roles & kRoleV2) != 0;
    const bool born_inside = v2 && !born_outside;
    // `tasks` moves the one thread that writes; cgroup.procs takes cgroup_threadgroup_rwsem, which
    // only a child pays for that must have memory of its own before it is in there.
    const std::string path = born_inside ? place.path : place.path + "/" + join_file(place);
    if (!born_inside) {
      join(path);
      continue;
    }
    v2_fd_ = Fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!v2_fd_) throw LaunchFailure(errno, Stage::kCgroup, path);
  }
}

void Cgroup::begin_of_command() {
  owner_ = ::getpid();
  of_command_ = true;
}

// v2 moves whole processes alone.
const char* Cgroup::join_file(const Place& place) {
  return (place.roles & kRoleV2) != 0 ? kProcessesV2 : kTasksV1;
}

void Cgroup::join_last() { join(places_.back().path + "/" + join_file(places_.back())); }

// It has a name as containers have them, by which the guards and the sweep know it.
void Cgroup::add_clock(const CgroupSpec& spec) {
  begin_of_command();
  has_clock_ = true;
  while (!make_directories(spec, another_name(spec))) {
  }
  clock_apart_ = places_.back().path;
  join_last();
}

void Cgroup::join(const std::string& file) {
  if (!open_to_join(file)) throw LaunchFailure(errno, Stage::kCgroup, file);
}

bool Cgroup::open_to_join(const std::string& file) {
  Fd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return false;
  joins_.push_back(fd.get());
  join_fds_.push_back(std::move(fd));
  return true;
}

void Cgroup::close_join_fds() {
  joins_.clear();
  join_fds_.clear();
}

const Cgroup::Place* Cgroup::with(uint32_t role) const {
  for (const auto& place : places_) {
    if ((place.roles & role) != 0 && !place.path.empty()) return &place;
  }
  return nullptr;
}

const Cgroup::Place* Cgroup::any() const { return with(~(kRoleShown | kRoleShared)); }

bool Cgroup::remove(int patience_us) {
  if (!is_mine()) return true;
  bool gone = true;
  for (auto& place : places_) {
    if (!is_own(place)) continue;
    if (divided_) remove_children(place.path);
    gone &= remove_directory(place.path, patience_us);
  }
  if (gone) places_.clear();
  return gone;
}

void Cgroup::update(const std::vector<CgroupChange>& changes) {
  // v1 keeps memory.limit_in_bytes <= memory.memsw.limit_in_bytes at all times, so which of them
  // comes first depends on the direction: what is refused (EINVAL) is tried again after the rest.
  std::vector<const CgroupChange*> refused;
  const auto apply = [&](const CgroupChange& change, bool again) {
    const Place* place = with(change.role);
    if (place == nullptr) {
      throw LaunchFailure(EOPNOTSUPP, Stage::kCgroup, change.file,
                          "the container was started without a limit of this kind");
    }
    const std::string path = place->path + "/" + change.file;
    const int error = write_file(path, change.value);
    if (error == EINVAL && !again) return refused.push_back(&change);
    if (error == 0) return update_below(*place, change);
    const char* hint = error == EBUSY ? "more than that is in use" : "";
    throw LaunchFailure(error, Stage::kCgroup, path + ": " + change.value, hint);
  };
  for (const auto& change : changes) apply(change, false);
  for (const auto* change : refused) apply(*change, true);
}

std::vector<std::pair<std::string, std::string>> Cgroup::binds() const {
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& place : places_) {
    if (!place.path.empty()) all.emplace_back(place.path, place.bind);
  }
  return all;
}

}  // namespace pyminicon::parent
