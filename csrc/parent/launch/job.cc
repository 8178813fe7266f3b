#include "parent/launch/job.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>

#include "base/message.h"
#include "child/birth/separate_memory.h"
#include "parent/cgroup/oom_score.h"
#include "parent/failure.h"
#include "parent/inside/collect.h"
#include "parent/launch/id_maps.h"
#include "parent/launch/idmapped.h"
#include "parent/launch/memory_mode.h"
#include "parent/launch/scratch.h"
#include "parent/process/clone.h"
#include "parent/process/helper_image.h"
#include "parent/process/launcher.h"
#include "parent/process/patience.h"

namespace pyminicon::parent {
namespace {

struct Entry {
  const LaunchPlan* plan;
  Report* report;
};

void enter_container(void* argument) {
  const auto& entry = *static_cast<Entry*>(argument);
  child::enter(*entry.plan, *entry.report);
}

// The container's own cgroup at /sys/fs/cgroup, where the JVM, Go and .NET look for their size.
std::vector<OpSpec> with_cgroup(const std::vector<OpSpec>& mounts, const Cgroup& cgroup) {
  std::vector<OpSpec> all;
  for (const OpSpec& op : mounts) {
    if (op.kind != OpKind::kCgroup) {
      all.push_back(op);
      continue;
    }
    const auto binds = cgroup.binds();
    const bool several = !(binds.size() == 1 && binds[0].second.empty());
    if (several) all.push_back({OpKind::kPlace, 0, {}, op.target, {}});
    for (const auto& [directory, name] : binds) {
      const std::string below = name.empty() ? "" : "/" + name;
      const uint32_t flags = op.flags | kOpReadOnly | kOpNoExec | (several ? kOpMakeTarget : 0);
      all.push_back({OpKind::kCgroup, flags, directory, *op.target + below, {}});
    }
    if (several) all.push_back({OpKind::kSeal, 0, {}, op.target, {}});
  }
  return all;
}

// A held source's name at this moment: the kernel keeps it for an open file, wherever that is
// moved. The child opens it again, since it can clone only mounts of its own namespace, and checks
// that it is the same file.
std::vector<OpSpec> followed(std::vector<OpSpec> mounts) {
  for (OpSpec& op : mounts) {
    if (op.held < 0) continue;
    char path[PATH_MAX];
    char link[32];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", op.held);
    const ssize_t size = readlink(link, path, sizeof path);
    // Not fstat: it asks a file system's server, which may not answer.
    struct statx info{};
    const int flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
    if (size < 0 || statx(op.held, "", flags, STATX_INO, &info) < 0) {
      throw LaunchFailure(errno, Stage::kPrepare, *op.source);
    }
    op.source = std::string(path, static_cast<size_t>(size));
    op.expected = {info.stx_ino, info.stx_dev_major, info.stx_dev_minor};
  }
  return mounts;
}

// setrlimit(2)'s names, as pyminicon/options/rlimits.py takes them.
std::string limit_name(uint32_t resource) {
  constexpr const char* kNames[] = {"cpu",      "fsize",  "data",    "stack", "core",  "rss",
                                    "nproc",    "nofile", "memlock", "as",    "locks", "sigpending",
                                    "msgqueue", "nice",   "rtprio",  "rttime"};
  return resource < std::size(kNames) ? kNames[resource] : std::to_string(resource);
}

// A memory limit that is too small for the set-up itself shows as a full tmpfs, for one.
std::string too_little_memory(const PlanSpec& spec, const Report& report) {
  const bool full = report.error == ENOSPC || report.error == ENOMEM;
  const bool little = spec.memory_limit != 0 && spec.memory_limit < kSmallestMemory;
  return full && little ? "below 1M of memory nothing may start" : "";
}

// The program in the caller's words: argv[0], which was searched for, or `executable` in its place.
std::string program_of(const ExecSpec& exec) {
  if (exec.candidates.size() == 1 && exec.argv[0] != exec.candidates[0] &&
      !exec.candidates[0].ends_with("/" + exec.argv[0])) {
    return exec.candidates[0];
  }
  const std::string name = exec.candidates.empty() ? "" : exec.candidates.back();
  const bool searched = exec.candidates.size() > 1 && !name.ends_with("/" + exec.argv[0]);
  if (searched) return name.substr(name.rfind('/') + 1);
  return exec.argv.empty() ? std::string() : exec.argv[0];
}

// A filter around the caller may forbid unshare(2), or kill for it, and let clone3(2) through.
bool was_refused(const Report& report, int returncode) {
  if (report.accompanied == 0 || report.stage != static_cast<uint32_t>(Stage::kNetwork)) {
    return false;
  }
  return report.error == 0 ? returncode == -SIGSYS : report.refused != 0;
}

}  // namespace

void LaunchJob::add_cgroup(Launched& made) {
  made.cgroup.emplace(Cgroup::make(*spec_.cgroup));
  made.counted = made.cgroup->has_directory();
  fds_.tasks = made.cgroup->join_fds();
  mounts_ = with_cgroup(spec_.mounts, *made.cgroup);
  // Only a container without a PID namespace of its own has to be found by its cgroup.
  const auto places = made.cgroup->binds();
  if (spec_.kill_by_cgroup && !places.empty()) made.watch_.set_cgroup(places[0].first, true);
}

void LaunchJob::prepare(Launched& made, bool park) {
  const bool own = park || needs_separate_memory(spec_);
  if (!own) netns_helper_.emplace(spec_, options_.served, borrowed_);  // beside all that follows
  if (spec_.cgroup) add_cgroup(made);
  const auto held = [](const OpSpec& op) { return op.held >= 0; };
  if (std::any_of(mounts().begin(), mounts().end(), held)) mounts_ = followed(mounts());
  if (spec_.disk_parent) {
    note_place(kWatchLayers, *spec_.disk_parent, "");
    Scratch scratch = make_scratch(*spec_.disk_parent, patience_of(options_));
    made.scratch_dir_ = std::move(scratch.directory);
    made.scratch_lock_ = std::move(scratch.lock);
    if (spec_.uid_map) give_to_root_of(spec_, made.scratch_dir_);
  }
  for (int i = 0; i < 3; ++i) fds_.stdio[i] = options_.stdio[i];
  fds_.served = options_.served;
  fds_.gate = options_.gate;
  fds_.gate_port = options_.gate_port;
  fds_.terminal = options_.terminal ? 1 : 0;
  fds_.pass = options_.pass;
  fds_.scratch_dir = made.scratch_dir_;
  fds_.id = options_.id;
  if (spec_.hand_out) {
    handout_ = make_socketpair();
    fds_.handout = handout_.write.get();
  }
  if (!spec_.pasta.empty()) {
    way_out_ = make_socketpair();
    fds_.way_out = way_out_.write.get();
  }
  if (park) {
    park_ = make_socketpair();
    fds_.park = park_.write.get();
  }
  fds_.landlock = !own && spec_.foreign_program;
  fds_.barrier = barrier_of(spec_);
  fds_.fresh_mounts = can_have_fresh_mounts(spec_, mounts());
  if (own) open_helper();
  build_plan(spec_, options_.exec, mounts(), fds_, arena_);
  header_ = &memory_->settle(arena_);
  if (own) report_ = &header_->report;
  report_->traced = options_.trace ? 1 : 0;
}

long LaunchJob::give_birth(Launched& made, kernel::CloneArgs& args, void* entry) {
  if (!spec_.cgroup || !spec_.cgroup->by_launcher) {
    int pidfd = -1;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    report_->parent = kParentStays;
    const bool stays = options_.thread_waits || in_main_thread();
    const long pid = stays ? clone_and_wait(args, enter_container, entry)
                           : clone_for_main_thread(args, enter_container, entry, report_->parent);
    made.pidfd = Fd(pidfd);
    return pid;
  }
  report_->parent = launcher_stays() ? kParentStays : kParentLeaves;
  std::vector<int> fds = {fds_.helper,       fds_.plan,     fds_.failure, fds_.ready,
                          fds_.go,           fds_.status,   fds_.handout, fds_.park,
                          fds_.parent_pidfd, fds_.commands, fds_.control, fds_.stdio[0],
                          fds_.stdio[1],     fds_.stdio[2], fds_.gate,    fds_.way_out};
  fds.insert(fds.end(), fds_.tasks.begin(), fds_.tasks.end());
  fds.insert(fds.end(), fds_.pass.begin(), fds_.pass.end());
  if (netns_helper_->there()) fds.push_back(report_->network_fd);
  const long pid = clone_by_launcher(args, enter_container, entry, fds, made.pidfd);
  const int born = *made.watch_.pid();
  if (pid == -ESRCH && born > 0) {  // it was killed before it could tell of the child
    made.pid = born;
    made.pidfd = Fd(static_cast<int>(syscall(kernel::kSysPidfdOpen, born, 0)));
  }
  return pid;
}

void LaunchJob::clone(Launched& made) {
  kernel::CloneArgs args{};
  args.flags =
      arena_.at<PlanHeader>(0).plan.namespaces | kernel::kClonePidfd | kernel::kCloneParentSettid;
  args.parent_tid = reinterpret_cast<uint64_t>(made.watch_.pid());
  args.exit_signal = SIGCHLD;
  if (made.cgroup && made.cgroup->clone_into_fd() >= 0) {
    args.flags |= kernel::kCloneIntoCgroup;
    args.cgroup = static_cast<uint64_t>(made.cgroup->clone_into_fd());
  }
  Entry entry{&arena_.at<PlanHeader>(0).plan, report_};
  if (!netns_helper_) netns_helper_.emplace(spec_, options_.served, *report_);
  if (netns_helper_->there()) args.flags &= ~static_cast<uint64_t>(CLONE_NEWNET);
  long pid = give_birth(made, args, &entry);
  if (pid == -EAGAIN && netns_helper_->there()) {  // it may have taken the last process there is
    netns_helper_->dismiss();
    report_->accompanied = 0;
    args.flags |= static_cast<uint64_t>(CLONE_NEWNET);
    pid = give_birth(made, args, &entry);
  }
  if (pid == -ESRCH && spec_.cgroup && spec_.cgroup->by_launcher) {
    throw LaunchFailure(ESRCH, Stage::kClone, "pyminicon-birth", "was killed; try once more");
  }
  if (pid < 0) throw LaunchFailure(static_cast<int>(-pid), Stage::kClone, "");
  made.pid = static_cast<int>(pid);
}

// Makes the way out when the child asks for it. A child that has failed doesn't ask; check() says
// why.
void LaunchJob::lead_out(Launched& made) {
  way_out_.write.reset();
  wait_readable(way_out_.read.get());
  char byte;
  if (::read(way_out_.read.get(), &byte, 1) != 1) return;
  const bool joins = (spec_.namespaces & static_cast<uint64_t>(CLONE_NEWUSER)) != 0;
  made.way_out_ =
      make_way_out(spec_.pasta, made.pid, made.pidfd.get(), joins, patience_of(options_));
  send_message(way_out_.read.get(), &byte, 1, nullptr, 0, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void LaunchJob::attend(Launched& made) {
  if (fds_.helper < 0) return;
  failure_.write.reset();
  ready_.write.reset();
  go_.read.reset();
  park_.write.reset();
  commands_.read.reset();
  control_.read.reset();
  if (spec_.uid_map) {
    wait_readable(ready_.read.get());
    char byte;
    if (::read(ready_.read.get(), &byte, 1) == 1) {
      write_id_maps(spec_, made.pid, patience_of(options_));
      const FavourPlan& favour = header_->plan.favour;
      if (favour.write_oom_score != 0) hold_oom_score(made.pid, favour.oom_score);
      send_go(go_.write.get(), spec_, mounts(), made.pid);
    }
  }
  go_.write.reset();
  if (way_out_.read) lead_out(made);
  if (!park_.read) {
    wait_readable(failure_.read.get());
    return;
  }
  wait_readable(park_.read.get());  // ready, or the end of a container that failed
  char byte;
  if (::read(park_.read.get(), &byte, 1) < 0) throw LaunchFailure(errno, Stage::kPark, "");
}

void LaunchJob::check(Launched& made, Stage reached) {
  netns_helper_.reset();
  status_.write.reset();
  made.init_status_ = std::move(status_.read);
  tell_of_init(*report_);
  const Report& report = *report_;
  const bool unready = reached == Stage::kInit && report.init != kInitReady;
  if (report.error != 0 || report.stage != static_cast<uint32_t>(reached) || unready) {
    made.reap(true);
    const bool unborn = report.stage == static_cast<uint32_t>(Stage::kNone) && made.cgroup &&
                        made.cgroup->clone_into_fd() >= 0;
    const int code = made.returncode.value_or(0);
    made.remove_leftovers();
    if (was_refused(report, code)) throw NetnsHelperRefused{};
    if (unborn && code == -SIGKILL) throw KilledAtBirth{};
    if (report.stage == static_cast<uint32_t>(Stage::kHelper) && report.error == 0 && code > 0) {
      throw LaunchFailure(code, Stage::kHelper, "");  // before it had the plan (helper/start.cc)
    }
    throw_failure(subject_of(spec_, options_, mounts(), report), report, code < 0 ? -code : 0,
                  too_little_memory(spec_, report));
  }
  if (commands_.write) {
    const bool lives = reached == Stage::kInit;
    made.living = std::make_shared<Living>(std::move(commands_.write), std::move(control_.write),
                                           ground_of(spec_, lives), lives);
  }
  if (handout_.read) {
    // The child has sent them, or its stage would have failed: an error here is the parent's own.
    const int why = receive_pair(handout_.read.get(), made.root, made.mount_namespace);
    if (why != 0) throw LaunchFailure(why, Stage::kCollect, "descriptor of the root");
  }
  if (made.cgroup) {
    made.cgroup->close_join_fds();
    made.cgroup->after_exec();
  }
}

void LaunchJob::open_helper() {
  helper_ = helper_image();
  failure_ = make_pipe();
  memory_->make_file();
  fds_.helper = helper_.get();
  fds_.failure = failure_.write.get();
  fds_.plan = memory_->file();
  if (spec_.uid_map) {
    ready_ = make_pipe();
    go_ = make_socketpair();
    fds_.ready = ready_.write.get();
    fds_.go = go_.read.get();
  }
  if (!spec_.init) return;
  status_ = make_pipe();
  fds_.status = status_.write.get();
  parent_ = Fd(static_cast<int>(syscall(kernel::kSysPidfdOpen, getpid(), 0)));
  fds_.parent_pidfd = parent_.get();
  if (options_.thread_waits) return;  // nobody has it to send it commands
  commands_ = make_socketpair();
  control_ = make_socketpair();
  // From here, as a filter of the user's own may forbid it inside.
  setsockopt(commands_.read.get(), SOL_SOCKET, SO_RCVTIMEO, &kWorkerPatience,
             sizeof kWorkerPatience);
  fds_.commands = commands_.read.get();
  fds_.control = control_.read.get();
}

void LaunchJob::wait_readable(int fd) {
  if (!readable_within(patience_of(options_), fd)) throw SetupTimeout{};
}

std::string subject_of(const PlanSpec& spec, const LaunchOptions& options,
                       const std::vector<OpSpec>& mounts, const Report& report) {
  const auto index = static_cast<size_t>(report.index);
  const bool listed = report.index >= 0;
  const auto of_op = [&](const std::vector<OpSpec>& ops) -> std::string {
    if (!listed || index >= ops.size()) return {};
    const auto& op = ops[index];
    if (report.source != 0 && op.source) return *op.source;
    return std::string("/").append(op.target.value_or(""));
  };
  switch (static_cast<Stage>(report.stage)) {
    case Stage::kRootfs:
      if (listed) return of_op(spec.skeleton);
      return spec.layers.empty() ? std::string() : spec.layers.back();
    case Stage::kMount:
    case Stage::kSysfs:
      return of_op(mounts);
    case Stage::kHostname:
      return spec.hostname_is_id ? options.id : spec.hostname.value_or("");
    case Stage::kSysctl:
      return listed && index < spec.sysctls.size() ? spec.sysctls[index].name : "";
    case Stage::kCwd:
      return options.exec.cwd;
    case Stage::kRlimit:
      return listed && index < spec.rlimits.size() ? limit_name(spec.rlimits[index].resource) : "";
    case Stage::kUser:
      return std::to_string(spec.uid) + ":" + std::to_string(spec.gid);
    case Stage::kStdio:
      return listed ? "descriptor " + std::to_string(index) : "";
    case Stage::kFds:
      return listed ? "descriptor " + std::to_string(index) : "";
    case Stage::kExec:
      return program_of(options.exec);
    default:
      return {};
  }
}

// Init is set up beside the program's own steps, so its failure isn't one of theirs.
void tell_of_init(Report& report) {
  if (report.init != kInitBegins || report.error != 0) return;
  report.stage = static_cast<uint32_t>(Stage::kInit);
  report.index = -1;
  report.source = 0;
  report.error = report.init_error;
}

void throw_failure(const std::string& subject, const Report& report, int signal,
                   const std::string& hint) {
  const auto stage = static_cast<Stage>(report.stage);
  if (report.error != 0) throw LaunchFailure(report.error, stage, subject, hint);
  throw LaunchFailure(ECANCELED, stage, subject,
                      "killed by signal " + std::to_string(signal) + " while being set up");
}

void keep_trace(const Report& report, int64_t prepared, Launched& made) {
  if (prepared != made.begun) made.trace.emplace_back("publish", 0);
  made.trace.emplace_back("prepare", prepared - made.begun);
  for (uint32_t stage = 0; stage < static_cast<uint32_t>(Stage::kCount); ++stage) {
    const auto stamp = static_cast<int64_t>(report.stamps[stage]);
    if (stamp == 0) continue;
    made.trace.emplace_back(stage_name(static_cast<Stage>(stage)), stamp - made.begun);
  }
  made.trace.emplace_back("started", made.started - made.begun);
}

}  // namespace pyminicon::parent
