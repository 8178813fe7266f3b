#include "parent/living/living.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/message.h"
#include "parent/failure.h"

namespace pyminicon::parent {
namespace {

// Each takes two descriptors, for the sake of a process's limit of these.
constexpr int kMostRunners = 32;
std::atomic<int> runners{0};
// What holds as much after that holds files, and not what a grace period frees.
constexpr int64_t kLongestRest = 100 * kMillisecond;

// Lays the command out; where it is too long for a message it goes by a file, but for its
// beginning.
Fd settle(Arena& arena) {
  auto& plan = arena.at<CommandPlan>(0);
  plan.size = static_cast<uint32_t>(arena.size());
  if (arena.size() > kMostCommand) {
    throw LaunchFailure(E2BIG, Stage::kExec, "", "arguments and environment take 16M at most");
  }
  Fd file;
  if (arena.size() > kMostInline) {
    plan.in_file = 1;
    const MakingFds making;
    file = Fd(memfd_create("pyminicon-command", MFD_CLOEXEC));
    if (!file) throw LaunchFailure(errno, Stage::kPrepare, "memfd_create");
  }
  arena.settle(kCommandAddress);
  for (size_t done = 0; file && done < arena.size();) {
    const ssize_t written = ::write(file.get(), arena.data() + done, arena.size() - done);
    if (written < 0) throw LaunchFailure(errno, Stage::kPrepare, "memfd_create");
    done += static_cast<size_t>(written);
  }
  return file;
}

// Room for one more message. There may be only so many descriptors under way (ETOOMANYREFS), and
// nobody tells when one has arrived.
void await_room(int socket, int error, const Patience& patience) {
  const bool full = error == EAGAIN;
  pollfd watched[] = {{socket, full ? short{POLLOUT} : short{0}, 0}, {patience.cancel, POLLIN, 0}};
  const int64_t left = (patience.deadline - now_ns()) / kMillisecond + 1;
  const int ready =
      poll(watched, 2, static_cast<int>(std::clamp<int64_t>(left, 0, full ? 1000 : 1)));
  if (ready < 0 && errno == EINTR && patience.interrupted) patience.interrupted();
  if (now_ns() >= patience.deadline || (ready > 0 && watched[1].revents != 0)) throw SetupTimeout{};
}

// What came is 0 bytes at the end of the socket, and less where there is nothing yet.
long receive(int socket, CommandReply& word, Fd& pidfd, int flags) {
  int fd = -1;
  const MakingFds making;
  const Received came = receive_message(socket, &word, sizeof word, &fd, 1, flags | MSG_DONTWAIT);
  const long got = came.bytes;
  if (got > 0 && came.fds > 0) pidfd = Fd(fd);
  if (got > 0 && got != static_cast<long>(sizeof word)) return 0;
  return got < 0 && got != -EAGAIN && got != -EINTR ? 0 : got;
}

long read_word(int pipe, CommandReply& word) {
  const ssize_t got = ::read(pipe, &word, sizeof word);
  if (got == static_cast<ssize_t>(sizeof word)) return got;
  return got < 0 && (errno == EAGAIN || errno == EINTR) ? -errno : 0;
}

}  // namespace

Living::Turn Living::take_turn() {
  const std::lock_guard guard(lock_);
  const bool company = untold_ > 0;
  if (company) {
    untold_ = 0;
    ++turn_;
  }
  ++untold_;
  return {++sent_, turn_, company};
}

void Living::give_back(uint32_t turn) {
  const std::lock_guard guard(lock_);
  --sent_;
  if (turn == turn_) --untold_;
}

void Living::heard_end(uint32_t turn) {
  const std::lock_guard guard(lock_);
  if (turn == turn_) --untold_;
}

void Living::send_whole(int socket, const void* bytes, size_t size, const std::vector<int>& fds,
                        const Patience& patience) {
  const auto count = static_cast<uint32_t>(fds.size());
  constexpr int kAtOnce = MSG_NOSIGNAL | MSG_DONTWAIT;
  long sent = 0;
  while ((sent = send_message(socket, bytes, size, fds.data(), count, kAtOnce)) < 0) {
    const int error = static_cast<int>(-sent);
    if (error == EAGAIN || error == ETOOMANYREFS) {
      await_room(socket, error, patience);
    } else if (error != EINTR) {
      const bool gone = error == EPIPE || error == ECONNRESET || error == ENOTCONN;
      throw LaunchFailure(gone ? ESHUTDOWN : error, Stage::kClone, "");
    }
  }
}

// A worker takes one command after the other, and init sleeps meanwhile. Whoever sends one that may
// have to wait for another tells init first, and only that: for one after the other nobody is
// woken.
uint32_t Living::send(Arena& arena, const std::vector<int>& fds, const Patience& patience) {
  const Fd file = settle(arena);
  std::vector<int> all = fds;
  if (file) all.insert(all.begin() + kFirstFd, file.get());
  const size_t size = file ? sizeof(CommandPlan) : arena.size();
  const Turn turn = take_turn();
  try {
    const ControlMessage company{InitOrder::kCompany, turn.sent};
    if (turn.company) send_whole(control_.get(), &company, sizeof company, {}, patience);
    send_whole(commands_.get(), arena.data(), size, all, patience);
  } catch (...) {
    give_back(turn.turn);
    throw;
  }
  return turn.turn;
}

namespace {

// False where it can't be taken now.
bool send_at_once(int socket, Arena& arena, const std::vector<int>& fds) {
  settle(arena);
  const auto count = static_cast<uint32_t>(fds.size());
  constexpr int kAtOnce = MSG_NOSIGNAL | MSG_DONTWAIT;
  return send_message(socket, arena.data(), arena.size(), fds.data(), count, kAtOnce) >= 0;
}

}  // namespace

bool Living::send_ahead(Arena& arena, const std::vector<int>& fds) {
  ControlMessage company{InitOrder::kCompany, 0};
  bool alone = true;
  {
    const std::lock_guard guard(lock_);
    company.number = ++sent_;
    alone = untold_ == 0;
  }
  constexpr int kAtOnce = MSG_NOSIGNAL | MSG_DONTWAIT;
  const bool told =
      alone || ::send(control_.get(), &company, sizeof company, kAtOnce) == sizeof company;
  if (told && send_at_once(commands_.get(), arena, fds)) return true;
  const std::lock_guard guard(lock_);
  --sent_;
  return false;
}

bool Living::send_to(const Runner& runner, Arena& arena, const std::vector<int>& fds) {
  return arena.size() <= kMostInline && send_at_once(runner.line.get(), arena, fds);
}

bool Living::has_no_runner() {
  const std::lock_guard guard(lock_);
  return lives_ && !makes_runner_ && !no_runner_ && !over_;
}

bool Living::begin_runner() {
  const std::lock_guard guard(lock_);
  if (makes_runner_ || no_runner_ || over_) return false;
  if (++runners >= kMostRunners) {
    --runners;
    return false;
  }
  makes_runner_ = true;
  return true;
}

void Living::keep_runner(std::optional<Runner> runner) {
  std::unique_lock guard(lock_);
  if (runner && !over_ && !no_runner_) {
    runner_ = std::move(runner);
    return;
  }
  makes_runner_ = false;
  --runners;
  guard.unlock();
  if (runner) let_go_of(std::move(*runner));
}

// With lock_ held.
std::optional<Runner> Living::pop_runner() {
  std::optional<Runner> runner;
  if (!runner_) return runner;
  runner.swap(runner_);
  makes_runner_ = false;
  --runners;
  return runner;
}

std::optional<Runner> Living::take_runner(const Cgroup* container, bool watch_oom) {
  std::optional<Runner> runner;
  {
    const std::lock_guard guard(lock_);
    if (!runner_) return runner;
    CommandReply word{};
    const long got = receive(runner_->reply.get(), word, runner_->pidfd, 0);
    // Isn't heard of yet: the next command's. To this one the word of its beginning would look like
    // its end.
    if (got < 0) return runner;
    if (got > 0 && word.word == CommandWord::kBegan && runner_->pidfd) runner_->pid = word.pid;
    runner = pop_runner();
  }
  pollfd told{runner->reply.get(), POLLIN, 0};  // before it has a command that is its end
  const bool fits =
      container == nullptr ? !runner->cgroup : runner->cgroup.fits(*container, watch_oom);
  if (fits && runner->pid != 0 && poll(&told, 1, 0) == 0) return runner;
  let_go_of(std::move(*runner));
  return std::nullopt;
}

// Not by the close alone: a process that the program has forked may have the descriptor as well.
void Living::let_go_of(Runner runner) {
  shutdown(runner.line.get(), SHUT_RDWR);
  if (runner.cgroup) give_away(std::move(runner.cgroup));
}

void Living::dismiss_runner() {
  std::optional<Runner> runner;
  {
    const std::lock_guard guard(lock_);
    no_runner_ = true;
    runner = pop_runner();
  }
  if (runner) let_go_of(std::move(*runner));
}

void Living::order(InitOrder what, uint32_t number) {
  // Its worker would wait for its end, and init for the worker.
  if (what == InitOrder::kTerminate) dismiss_runner();
  const ControlMessage message{what, number};
  // A full socket: init has been asked often enough.
  ::send(control_.get(), &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Living::leave(Cgroup cgroup, bool unharmed) {
  constexpr size_t kMostSpares = 3;
  if (unharmed && cgroup && !cgroup.has_clock()) {
    const std::lock_guard guard(lock_);
    if (!over_ && spares_.size() < kMostSpares) {
      spares_.push_back(std::move(cgroup));
      return;
    }
  }
  give_away(std::move(cgroup));
}

void Living::note_apart(const Cgroup& cgroup) {
  const std::lock_guard guard(lock_);
  apart_.push_back(cgroup.clock_apart());
}

// The one that was used last, of which the processor knows most; where too much is charged to it
// still, the one that has rested longest.
Cgroup Living::spare_group(const Cgroup& container, bool watch_oom) {
  for (;;) {
    Cgroup spare = pop_spare();
    if (!spare) break;
    const Renewal renewal = spare.renew(container, watch_oom);
    if (renewal == Renewal::kDone) return spare;
    if (renewal == Renewal::kNever || !rest(spare)) give_away(std::move(spare));
  }
  for (;;) {
    std::optional<Resting> rested = pop_rested();
    if (!rested) return {};
    const Renewal renewal = rested->cgroup.renew(container, watch_oom);
    if (renewal == Renewal::kDone) return std::move(rested->cgroup);
    if (renewal == Renewal::kNotYet && now_ns() - rested->since < kLongestRest) {
      const std::lock_guard guard(lock_);
      resting_.push_front(std::move(*rested));
      return {};  // the others rest for a shorter time
    }
    give_away(std::move(rested->cgroup));
  }
}

Cgroup Living::pop_spare() {
  const std::lock_guard guard(lock_);
  if (spares_.empty()) return {};
  Cgroup spare = std::move(spares_.back());
  spares_.pop_back();
  return spare;
}

std::optional<Living::Resting> Living::pop_rested() {
  const std::lock_guard guard(lock_);
  if (resting_.empty()) return std::nullopt;
  std::optional<Resting> rested(std::move(resting_.front()));
  resting_.pop_front();
  return rested;
}

// False where as many rest as one loop of commands fills before the first has rested.
bool Living::rest(Cgroup& cgroup) {
  constexpr size_t kMostResting = 12;
  const std::lock_guard guard(lock_);
  if (over_ || resting_.size() >= kMostResting) return false;
  resting_.push_back({std::move(cgroup), now_ns()});
  return true;
}

void Living::give_away(Cgroup cgroup) {
  const std::lock_guard guard(lock_);
  if (removed(cgroup)) return;
  cgroup.hear_no_more();
  kept_.push_back(std::move(cgroup));
}

// With lock_ held. False where somebody is in there still.
bool Living::removed(Cgroup& cgroup) {
  const std::string apart = cgroup.clock_apart();
  if (!cgroup.remove_if_empty()) return false;
  if (!apart.empty()) std::erase(apart_, apart);
  return true;
}

void Living::remove_spares() {
  dismiss_runner();
  std::vector<Cgroup> spares;
  std::deque<Resting> resting;
  std::vector<std::string> apart;
  {
    const std::lock_guard guard(lock_);
    over_ = true;
    spares.swap(spares_);
    resting.swap(resting_);
    apart.swap(apart_);
  }
  constexpr int kPatienceUs = 2000000;
  for (const std::string& path : apart) remove_directory(path, kPatienceUs);
}

// A few at each command, so that whoever starts many servers doesn't ask for all of them each time.
void Living::remove_kept() {
  constexpr size_t kAtOnce = 4;
  const std::lock_guard guard(lock_);
  for (size_t i = std::min(kept_.size(), kAtOnce); i > 0; --i) {
    Cgroup cgroup = std::move(kept_.front());
    kept_.pop_front();
    if (!removed(cgroup)) kept_.push_back(std::move(cgroup));
  }
}

// Init answers in a moment: it is in no cgroup that holds it up, and asked once.
bool Living::has_begun(uint32_t number) {
  constexpr int64_t kSoon = 100 * kMillisecond;
  const std::lock_guard guard(lock_);
  if (!begun_) {
    const ControlMessage ask{InitOrder::kShowBegun, 0};
    ::send(control_.get(), &ask, sizeof ask, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (!readable_within({now_ns() + kSoon}, control_.get())) return true;
    const MakingFds making;
    char note;
    int fd = -1;
    const Received came = receive_message(control_.get(), &note, sizeof note, &fd, 1, MSG_DONTWAIT);
    if (came.bytes <= 0 || came.fds == 0) return true;
    begun_ = Fd(fd);
  }
  uint32_t last = 0;
  const auto at = static_cast<off_t>(number % kBegunRoom * sizeof last);
  return ::pread(begun_.get(), &last, sizeof last, at) != sizeof last || !is_behind(number, last);
}

void Living::close() { shutdown(control_.get(), SHUT_RDWR); }

bool Living::ended() const {
  pollfd watched{control_.get(), 0, 0};
  return poll(&watched, 1, 0) > 0 && (watched.revents & (POLLHUP | POLLERR)) != 0;
}

void CommandEnd::begun_by_runner(int pid, Fd pidfd, int line, Fd reply) {
  pid_ = pid;
  pidfd_ = std::move(pidfd);
  line_ = line;
  own_reply_ = std::move(reply);
  if (own_reply_) reply_ = own_reply_.get();
}

// Its socket is closed by execve; who was killed before that has ended as a command.
std::optional<bool> CommandEnd::heard_of_runner(CommandReply& word) {
  for (;;) {
    Fd none;
    const long got = receive(line_, word, none, 0);
    if (got < 0) return std::nullopt;
    if (got > 0 && word.word == CommandWord::kFailed) return true;
    if (got == 0) break;
    taken_ = true;
  }
  word = {};
  word.pid = pid_;
  return taken_;
}

std::optional<bool> CommandEnd::heard(CommandReply& word) {
  if (own_reply_) return heard_of_runner(word);
  const ssize_t got = receive(reply_, word, pidfd_, 0);
  if (got == 0 || (got > 0 && word.word == CommandWord::kFailed)) hear_end();
  return got < 0 ? std::nullopt : std::optional(got > 0);
}

bool CommandEnd::never_began() const {
  if (failure_) return failure_->stage == static_cast<uint32_t>(Stage::kPark);
  return !end_.known && !container_->has_begun(number_);
}

void CommandEnd::hear_end() {
  if (turn_) container_->heard_end(*turn_);
  turn_.reset();
}

void CommandEnd::end(bool killed) {
  asked_ = true;
  if (!killed) remind();
}

void CommandEnd::remind() { container_->order(InitOrder::kEnd, number_); }

std::optional<CommandEnd::Ended> CommandEnd::look() {
  if (piped_ && end_.known && !asked_) return end_;
  for (;;) {
    CommandReply word{};
    Fd pidfd;
    const long got = piped_ ? read_word(reply_, word) : receive(reply_, word, pidfd, MSG_PEEK);
    if (got < 0) return std::nullopt;
    if (got == 0 || word.word != CommandWord::kBegan) hear_end();
    if (got == 0) return end_;
    if (word.word == CommandWord::kEnded) {
      end_ = {true, word.status, static_cast<double>(word.user_us) * 1e-6,
              static_cast<double>(word.system_us) * 1e-6, word.lasted};
      if (!asked_) return end_;  // the word stays, and the socket readable
    }
    if (word.word == CommandWord::kFailed) {
      failure_ = word;
      return Ended{};
    }
    if (!piped_) receive(reply_, word, pidfd_, 0);
  }
}

}  // namespace pyminicon::parent
