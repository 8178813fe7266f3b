// The cgroups of a container to live in: for each command one, below the container's own.
//
// v2 gives controllers to the children of a cgroup only where that has no process of its own. So at
// its first command the container's is divided:
//
//     C                limits, and what all of it has used
//     C/init           our init and its workers
//     C/run            the limit of processor time, and what freezes
//     C/run/command-N  a command
//
// So init, which begins commands and ends them, neither starves beside commands that use up the
// container's time nor is frozen with them. On v1 every controller has a tree of its own, and init
// leaves those that would hold it up.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "parent/cgroup/cgroup.h"
#include "parent/cgroup/file.h"
#include "parent/failure.h"

namespace pyminicon::parent {
namespace {

// What holds up who is in there.
constexpr uint32_t kHoldsUp = kRoleCpu | kRoleFreezer;
// What init is held to as well.
constexpr uint32_t kLimits = kRoleMemory | kRolePids | kRoleIo;

[[noreturn]] void fail(int error, const std::string& path) {
  throw LaunchFailure(error, Stage::kCgroup, path,
                      error == EAGAIN || error == ENOSPC
                          ? "the cgroup above takes no further one (cgroup.max.descendants)"
                          : "");
}

void make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) fail(errno, path);
}

void set(const std::string& path, const std::string& value) {
  if (const int error = write_file(path, value); error != 0) fail(error, path + ": " + value);
}

// What runs in `from` itself goes into the group whose file `to` is; it may fork meanwhile.
void move_all(const std::string& from, const std::string& to) {
  Backoff backoff(2'000'000);
  for (;;) {
    std::istringstream pids(read_file(from).value_or(""));
    bool any = false;
    for (std::string pid; pids >> pid; any = true) {
      if (const int error = write_file(to, pid); error != 0 && error != ESRCH) fail(error, to);
    }
    if (!any) return;
    if (!backoff.sleep()) fail(ETIMEDOUT, from);
  }
}

// One after the other: one that is refused takes the others of its write along. A process that has
// just left may still be counted (EBUSY).
void give(const std::string& path, const std::string& controllers, bool cpu) {
  std::istringstream names(controllers);
  for (std::string name; names >> name;) {
    if (name != "memory" && name != "pids" && name != "io" && !(cpu && name == "cpu")) continue;
    Backoff backoff(2'000'000);
    const std::string file = path + "/cgroup.subtree_control";
    int error = 0;
    while ((error = write_file(file, "+" + name)) == EBUSY && backoff.sleep()) {
    }
    if (error != 0) fail(error, file + ": +" + name);
  }
}

bool is_limit(const std::optional<std::string>& value) {
  return value && !value->empty() && !value->starts_with("max");
}

std::string above(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

void Cgroup::divide() {
  if (divided_ || !is_mine() || any() == nullptr) return;
  for (const Place& place : places_) {
    if (place.path.empty() || (place.roles & kRoleShown) != 0) continue;
    if ((place.roles & kRoleV2) != 0) {
      divide_v2(place);
    } else if ((place.roles & kHoldsUp) != 0 && (place.roles & kLimits) == 0) {
      move_all(place.path + "/tasks", above(place.path) + "/tasks");
    }
  }
  divided_ = true;
}

void Cgroup::divide_v2(const Place& place) {
  const std::string init = place.path + "/init", run = place.path + "/run";
  make_directory(init);
  make_directory(run);
  move_all(place.path + "/cgroup.procs", init + "/cgroup.procs");
  const std::string have = read_file(place.path + "/cgroup.controllers").value_or("");
  const auto time = read_file(place.path + "/cpu.max");
  give(place.path, have, is_limit(time));
  give(run, have, is_limit(time));
  if (is_limit(time)) {
    set(run + "/cpu.max", *time);
    set(place.path + "/cpu.max", "max");
    repeated_.emplace_back("cpu.max", *time);
  }
  for (const char* file : {"memory.max", "memory.swap.max"}) {
    const auto limit = read_file(place.path + "/" + file);
    if (is_limit(limit)) repeated_.emplace_back(file, *limit);
  }
  // A kill is of the command that it happens in, and not of all.
  if ((place.roles & kRoleMemory) != 0) write_file(place.path + "/memory.oom.group", "0");
}

// Where what is asked of all commands together is written and frozen.
std::string Cgroup::commands_of(const Place& place) const {
  const bool v2 = (place.roles & kRoleV2) != 0;
  return divided_ && v2 ? place.path + "/run" : place.path;
}

// What a command joins besides its own: where that isn't for each command but freezes it, say.
std::vector<std::string> Cgroup::files_beside() const {
  std::vector<std::string> files;
  for (const Place& place : places_) {
    const bool left_out = place.path.empty() || (place.roles & (kRoleShown | kRolesTold)) != 0;
    if (left_out || (place.roles & kHoldsUp) == 0) continue;
    files.push_back(commands_of(place) + "/" + join_file(place));
  }
  return files;
}

bool Cgroup::is_for_each_command(const Place& place) {
  return !place.path.empty() && (place.roles & kRoleShown) == 0 && (place.roles & kRolesTold) != 0;
}

Cgroup Cgroup::below(Cgroup& container, uint32_t number, bool watch_oom) {
  Cgroup made;
  if (!container.is_mine() || container.any() == nullptr) return made;
  container.divide();
  made.begin_of_command();
  made.beside_ = container.places_.size();
  const std::string name = "/command-" + std::to_string(number);
  for (const std::string& file : container.files_beside()) made.join(file);
  for (const Place& place : container.places_) {
    if (!is_for_each_command(place)) continue;
    const std::string path = container.commands_of(place) + name;
    if (::mkdir(path.c_str(), 0755) != 0) fail(errno, path);
    const uint32_t roles = place.roles & (kRolesTold | kRoleV2);
    // The number of those in there is asked where they are counted anyway (is_taken).
    const bool first = (roles & (kRolePids | kRoleV2)) == kRolePids;
    made.places_.insert(first ? made.places_.begin() : made.places_.end(), {path, "", roles});
    if ((place.roles & kRoleV2) != 0) container.repeat_limits(path);
  }
  made.open_join_fds(true);
  if (watch_oom) {
    made.watch_oom();
    made.after_exec();  // it never shares the caller's memory
  }
  return made;
}

// On v2 as well: a container that isn't divided gives nobody a controller, and its limits hold for
// all that is below it.
void Cgroup::add_clock_below(const Cgroup& container, uint32_t number) {
  const Place* above = container.with(kRoleCpuTime);
  if (!container.is_mine() || above == nullptr) return;
  begin_of_command();
  has_clock_ = true;
  const std::string path = container.commands_of(*above) + "/command-" + std::to_string(number);
  if (::mkdir(path.c_str(), 0755) != 0) fail(errno, path);
  places_.push_back({path, "", kRoleCpuTime | (above->roles & kRoleV2)});
  join_last();
}

// A JVM or .NET program looks for its limits in its own cgroup alone.
void Cgroup::repeat_limits(const std::string& path) const {
  for (const auto& [file, value] : repeated_) set(path + "/" + file, value);
}

// Where a changed limit of a divided container is written, besides; before the first command that
// is the container's own directory alone.
void Cgroup::update_below(const Place& place, const CgroupChange& change) {
  if (!divided_ || (place.roles & kRoleV2) == 0) return;
  const bool time = change.file == "cpu.max";
  if (!time && change.file != "memory.max" && change.file != "memory.swap.max") return;
  const std::string run = place.path + "/run";
  if (time) {
    give(place.path, "cpu", true);
    give(run, "cpu", true);
    set(run + "/cpu.max", change.value);
    set(place.path + "/cpu.max", "max");
  }
  std::erase_if(repeated_, [&](const auto& one) { return one.first == change.file; });
  repeated_.emplace_back(change.file, change.value);
  for (const std::string& command : directories_in(run)) {
    write_file(command + "/" + change.file, change.value);  // it may have just gone
  }
}

bool Cgroup::has_many_processes() const {
  constexpr uint64_t kMany = 32;
  const Place* place = with(kRolePids);
  return place == nullptr || number(read_file(place->path + "/pids.max")).value_or(kMany) >= kMany;
}

bool Cgroup::remove_if_empty() { return remove(0); }

bool Cgroup::kill_at_once() const {
  if (!is_mine()) return false;
  const Place* place = with(kRoleV2);
  if (place != nullptr) return write_file(place->path + "/cgroup.kill", "1") == 0;
  // v1: where nobody can fork any more a list holds all of them, but for whoever is being born just
  // now, and whom init finds.
  const Place* pids = with(kRolePids);
  if (pids != nullptr && write_file(pids->path + "/pids.max", "0") == 0) signal_all();
  return false;
}

}  // namespace pyminicon::parent
