// Stopping, continuing and killing all that is in a container's cgroups.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "parent/cgroup/cgroup.h"
#include "parent/cgroup/file.h"
#include "parent/failure.h"
#include "parent/reaper/reaper.h"

namespace pyminicon::parent {
namespace {

void add_pids(const std::string& path, std::vector<pid_t>& pids) {
  const auto text = read_file(path + "/cgroup.procs");
  if (!text) return;
  const char* at = text->data();
  const char* const end = at + text->size();
  for (pid_t pid = 0; at < end;) {
    const auto [stop, error] = std::from_chars(at, end, pid);
    if (error == std::errc() && pid > 0) pids.push_back(pid);  // 0: of another PID namespace
    at = std::find(stop, end, '\n');
    if (at < end) ++at;
  }
}

void add_all_pids(const std::string& path, std::vector<pid_t>& pids) {
  add_pids(path, pids);
  for (const std::string& below : directories_in(path)) add_all_pids(below, pids);
}

// Its own, and those of the commands in it.
std::vector<pid_t> pids_in(const std::string& path) {
  std::vector<pid_t> pids;
  add_all_pids(path, pids);
  return pids;
}

bool holds_nobody(const std::string& path, bool v2) {
  if (v2) return field(read_file(path + "/cgroup.events"), "populated").value_or(0) == 0;
  return pids_in(path).empty();
}

int freeze_v1(const std::string& path, bool frozen) {
  const std::string file = path + "/freezer.state";
  Backoff backoff(5'000'000);
  for (;;) {
    if (const int error = write_file(file, frozen ? "FROZEN" : "THAWED"); error != 0) return error;
    const auto state = read_file(file);
    if (!state || !frozen || state->starts_with("FROZEN")) return 0;
    // FREEZING: a task is on its way, or was forked meanwhile; writing again catches that one.
    if (!backoff.sleep()) return ETIMEDOUT;
  }
}

int freeze_v2(const std::string& path, bool frozen) {
  const Fd events(::open((path + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
  int error = write_file(path + "/cgroup.freeze", frozen ? "1" : "0");
  // cgroup.events says when all of them have stopped, and notifies poll when it changes.
  for (int left_ms = 5000; error == 0 && frozen && events; left_ms -= 50) {
    char text[256];
    const ssize_t got = ::pread(events.get(), text, sizeof text, 0);
    const std::string now(text, got > 0 ? static_cast<size_t>(got) : 0);
    if (field(now, "frozen").value_or(1) == 1 || field(now, "populated").value_or(1) == 0) break;
    if (left_ms <= 0) error = ETIMEDOUT;
    pollfd wait{events.get(), POLLPRI, 0};
    ::poll(&wait, 1, 50);
  }
  return error;
}

}  // namespace

std::vector<pid_t> Cgroup::processes() const {
  const Place* place = any();
  return place != nullptr ? pids_in(place->path) : std::vector<pid_t>();
}

// By pidfd, and only what is still in the cgroup after its pidfd was opened: the pid of a process
// that ended meanwhile may already be somebody else's.
void Cgroup::signal_all() const {
  std::vector<std::pair<pid_t, Fd>> held;
  for (const pid_t pid : processes()) {
    Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (fd) held.emplace_back(pid, std::move(fd));
  }
  std::vector<pid_t> still = processes();
  std::sort(still.begin(), still.end());
  for (const auto& [pid, fd] : held) {
    if (std::binary_search(still.begin(), still.end(), pid)) {
      ::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0);
    }
  }
}

bool Cgroup::is_empty() const {
  return std::all_of(places_.begin(), places_.end(), [](const Place& place) {
    return !is_own(place) || holds_nobody(place.path, (place.roles & kRoleV2) != 0);
  });
}

bool Cgroup::kill(int patience_us) {
  if (!is_mine() || any() == nullptr) return true;
  const Place* v2 = with(kRoleV2);
  const Place* freezer = with(kRoleFreezer);
  if (freezer == v2) freezer = nullptr;  // v2 kills what is frozen, and all at one blow
  // Nothing may be born while the list is read: the freezer stops all, pids.max stops forks.
  const Place* pids = with(kRolePids);
  if (pids != nullptr && pids != v2) write_file(pids->path + "/pids.max", "0");
  Backoff backoff(patience_us);
  do {
    const bool killed = v2 != nullptr && write_file(v2->path + "/cgroup.kill", "1") == 0;  // 5.14
    if (freezer != nullptr) freeze_v1(freezer->path, true);
    if (!killed || any() != v2) signal_all();
    // What the v1 freezer holds dies only when it is let go.
    if (freezer != nullptr) freeze_v1(freezer->path, false);
    if (is_empty()) return true;
  } while (backoff.sleep());
  return false;
}

void Cgroup::freeze(bool frozen) {
  if (!is_mine()) return;
  if (with(kRoleFreezer) == nullptr && frozen) make_late_freezer();
  const Place* place = with(kRoleFreezer);
  if (place == nullptr) return;  // nothing was frozen
  const bool v2 = (place->roles & kRoleV2) != 0;
  const std::string path = commands_of(*place);
  const int error = v2 ? freeze_v2(path, frozen) : freeze_v1(path, frozen);
  if (error != 0) throw LaunchFailure(error, Stage::kCgroup, place->path);
}

std::string Cgroup::v1_freezer() const {
  const Place* place = with(kRoleFreezer);
  if (place != nullptr) return (place->roles & kRoleV2) != 0 ? "" : place->path;
  return late_freezer_.empty() || late_freezer_v2_ ? "" : late_freezer_ + "/" + name_;
}

void Cgroup::let_go() const {
  if (!is_mine() || with(kRoleFreezer) == nullptr) return;
  if (const std::string freezer = v1_freezer(); !freezer.empty()) freeze_v1(freezer, false);
}

// None of the limits needed a cgroup that can freeze, and making one for every container would cost
// each launch 0.04 ms. So it is made when it is first asked for, and all processes are moved into
// it; it is frozen before, so that whoever is in there forks no more and the moving comes to an
// end.
void Cgroup::make_late_freezer() {
  if (late_freezer_.empty() || any() == nullptr) {
    throw LaunchFailure(EOPNOTSUPP, Stage::kCgroup, "freeze",
                        "no cgroup of this container can freeze; usage=True makes one");
  }
  const std::string path = late_freezer_ + "/" + name_;
  note_place(kWatchCgroups, late_freezer_, name_.substr(0, name_.rfind('-')));
  if (::mkdir(path.c_str(), 0755) != 0) throw LaunchFailure(errno, Stage::kCgroup, path);
  const Place members = *any();
  places_.push_back({path, "", kRoleFreezer | (late_freezer_v2_ ? kRoleV2 : 0U)});
  const std::string group = commands_of(places_.back());
  if (group != path && ::mkdir(group.c_str(), 0755) != 0) {
    throw LaunchFailure(errno, Stage::kCgroup, group);
  }
  const int frozen = write_file(group + (late_freezer_v2_ ? "/cgroup.freeze" : "/freezer.state"),
                                late_freezer_v2_ ? "1" : "FROZEN");
  if (frozen != 0) throw LaunchFailure(frozen, Stage::kCgroup, group);
  Backoff backoff(5'000'000);
  for (bool all_in = false; !all_in;) {
    all_in = true;
    std::vector<pid_t> inside = pids_in(group);
    std::sort(inside.begin(), inside.end());
    for (const pid_t pid : to_be_frozen(members)) {
      if (std::binary_search(inside.begin(), inside.end(), pid)) continue;
      const int error = write_file(group + "/cgroup.procs", std::to_string(pid));
      if (error != 0 && error != ESRCH) throw LaunchFailure(error, Stage::kCgroup, group);
      all_in = false;
    }
    if (!all_in && !backoff.sleep()) throw LaunchFailure(ETIMEDOUT, Stage::kCgroup, path);
  }
}

// In a container to live in all but init and its workers.
std::vector<pid_t> Cgroup::to_be_frozen(const Place& members) const {
  const std::string path = commands_of(members);
  std::vector<pid_t> pids;
  if (!divided_) return pids_in(path);
  // Where commands have groups of their own, who is in none is init or a worker.
  const bool grouped = (members.roles & kRolesTold) != 0;
  if (!grouped) add_pids(path, pids);
  for (const std::string& command : directories_in(path)) add_all_pids(command, pids);
  return pids;
}

}  // namespace pyminicon::parent
