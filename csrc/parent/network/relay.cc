#include "parent/network/relay.h"

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "base/kernel.h"
#include "base/message.h"
#include "parent/network/inside.h"
#include "parent/network/pair.h"
#include "parent/process/failure.h"
#include "parent/process/patience.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {
namespace {

// To the thread, through a container's line; and from it.
constexpr char kCarry = 'p', kEnd = 'e', kAccepted = 'c', kReady = 'r';

void close_fds(const int* fds, size_t count) {
  for (size_t i = 0; i < count; ++i) ::close(fds[i]);
}

constexpr size_t kMostPublished = 200;
constexpr uint32_t kMostTunnels = 256;  // of one container

struct Ports {
  uint32_t count = 0;
  uint16_t port[kMostPublished] = {};
};

// Everything in here belongs to the thread, whose descriptor table has nothing else: no Fd, which
// would be noted as the caller's.
class Relay {
 public:
  explicit Relay(int orders) : orders_(orders), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    watch(orders_, EPOLLIN, new_watch(Kind::kOrders, nullptr, orders_));
  }

  void serve() {
    std::array<epoll_event, 128> events;
    for (;;) {
      constexpr int kLookAgain = 5;  // ms
      const int wait = going_on_.empty() ? -1 : starved_ ? kLookAgain : 0;
      const int count = epoll_wait(epoll_, events.data(), events.size(), wait);
      for (int i = 0; i < count; ++i) {
        auto& one = *static_cast<Watch*>(events[static_cast<size_t>(i)].data.ptr);
        if (!one.gone) handle(one);
      }
      go_on();
      bury();
    }
  }

 private:
  enum class Kind { kOrders, kBirth, kLine, kPidfd, kListener, kInner, kPair };
  struct Group;
  struct Watch {
    Kind kind;
    Group* group;
    int fd;
    uint16_t port = 0;
    std::unique_ptr<Pair> pair;
    bool gone = false, going_on = false, tunnel = false;
  };
  struct Group {
    int pidfd = -1;
    std::unordered_map<Watch*, std::unique_ptr<Watch>> watches;
    Watch* line = nullptr;
    uint32_t tunnels = 0;
  };

  Watch* new_watch(Kind kind, Group* group, int fd) {
    auto made = std::make_unique<Watch>();
    Watch* one = made.get();
    one->kind = kind;
    one->group = group;
    one->fd = fd;
    open_ += kind == Kind::kPair ? 2 : 1;
    (group != nullptr ? group->watches : own_)[one] = std::move(made);
    return one;
  }

  void watch(int fd, uint32_t events, Watch* one) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = one;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void handle(Watch& one) {
    switch (one.kind) {
      case Kind::kOrders:
        return begin_group();
      case Kind::kBirth:
        return be_told(one);
      case Kind::kLine:
        return obey(one);
      case Kind::kPidfd:
        return drop(*one.group);
      case Kind::kListener:
      case Kind::kInner:
        return accept_some(one);
      case Kind::kPair:
        return carry(one);
    }
  }

  void begin_group() {
    Ports ports;
    std::array<int, kMostPublished + 2> fds{};
    const Received got =
        receive_message(orders_, &ports, sizeof ports, fds.data(), fds.size(), MSG_DONTWAIT);
    if (got.fds < 2 || got.fds != ports.count + 2 || is_full()) {  // there was no room for them
      close_fds(fds.data(), got.fds);
      return;
    }
    auto made = std::make_unique<Group>();
    Group* group = made.get();
    groups_[group] = std::move(made);
    group->line = new_watch(Kind::kLine, group, fds[1]);
    watch(fds[1], EPOLLIN, group->line);
    watch(fds[0], EPOLLIN, new_watch(Kind::kBirth, group, fds[0]));
    for (uint32_t i = 0; i < ports.count; ++i) {  // served once it is known where they lead
      new_watch(Kind::kListener, group, fds[i + 2])->port = ports.port[i];
    }
    send_message(fds[1], &kReady, 1, nullptr, 0, MSG_DONTWAIT);
  }

  // The child says where it is; where it has come to nothing all ends that could have said so.
  void be_told(Watch& birth) {
    Group& group = *birth.group;
    char byte;
    std::array<int, 2> fds{};
    const Received got = receive_message(birth.fd, &byte, 1, fds.data(), fds.size(), MSG_DONTWAIT);
    if (got.bytes < 0) return;
    if (got.fds == 0 || group.pidfd >= 0) {
      close_fds(fds.data(), got.fds);
      if (group.pidfd < 0) return drop(group);
      return forget(birth);
    }
    group.pidfd = fds[0];
    watch(fds[0], EPOLLIN, new_watch(Kind::kPidfd, &group, fds[0]));
    if (got.fds > 1) {
      watch(fds[1], EPOLLIN, new_watch(Kind::kInner, &group, fds[1]));
    }
    for (auto& [one, kept] : group.watches) {
      if (one->kind == Kind::kListener) watch(one->fd, full_ ? 0U : uint32_t{EPOLLIN}, one);
    }
    forget(birth);
  }

  // A pair to be carried; anything else, and the end of the line, is the end of all.
  void obey(Watch& line) {
    char order = 0;
    std::array<int, 2> fds{};
    const Received got = receive_message(line.fd, &order, 1, fds.data(), fds.size(), MSG_DONTWAIT);
    if (got.bytes < 0) return;
    const bool room = line.group->tunnels < kMostTunnels && !is_full();
    if (got.bytes == 1 && order == kCarry && got.fds == 2 && room) {
      ++line.group->tunnels;
      return begin_pair(*line.group, fds[0], fds[1], true);
    }
    close_fds(fds.data(), got.fds);
    if (got.bytes == 0 || order != kCarry) drop(*line.group);
  }

  void accept_some(Watch& listener) {
    constexpr int kMost = 32;  // at a time
    Group& group = *listener.group;
    for (int i = 0; i < kMost && !listener.gone; ++i) {
      if (is_full()) return pause(true);
      const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      if (listener.kind == Kind::kListener) {
        lead_inside(group, fd, listener.port);
      } else {
        // Where nobody takes it in time it is closed, and whoever has connected sees that.
        send_message(group.line->fd, &kAccepted, 1, &fd, 1, MSG_DONTWAIT);
        ::close(fd);
      }
    }
  }

  // A loopback says at once that nobody listens, though not by connect(2) itself.
  static int connected(const Group& group, const Address& address) {
    const RawSocket made = make_raw_socket_inside(group.pidfd, address, false);
    if (made.fd < 0) return -made.error;
    int failed = 0;
    socklen_t size = sizeof failed;
    getsockopt(made.fd, SOL_SOCKET, SO_ERROR, &failed, &size);
    if (failed == 0) return made.fd;
    ::close(made.fd);
    return -failed;
  }

  // A server of the container's listens on either loopback.
  void lead_inside(Group& group, int client, uint16_t port) {
    const std::string v4("\x7f\0\0\1", 4), v6("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    int made = connected(group, address_of(AF_INET, v4, port));
    if (made == -ECONNREFUSED) made = connected(group, address_of(AF_INET6, v6, port));
    if (made >= 0) return begin_pair(group, client, made, false);
    const linger reset{1, 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    ::close(client);
  }

  void begin_pair(Group& group, int one, int other, bool tunnel) {
    Watch* made = new_watch(Kind::kPair, &group, -1);
    made->pair = std::make_unique<Pair>(one, other);
    made->tunnel = tunnel;
    constexpr uint32_t kAll = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    watch(one, kAll, made);
    watch(other, kAll, made);
    carry(*made);
  }

  void carry(Watch& one) {
    const Pair::State state = one.pair->carry(pipes_);
    if (state == Pair::State::kEnded) return forget(one);
    if (state == Pair::State::kWaits || one.going_on) return;
    starved_ |= state == Pair::State::kStarved;
    one.going_on = true;
    going_on_.push_back(&one);
  }

  void go_on() {
    std::vector<Watch*> some;
    some.swap(going_on_);
    starved_ = false;
    for (Watch* one : some) {
      if (one->gone) continue;
      one->going_on = false;
      carry(*one);
    }
  }

  // Some are spared for pipes and for what is made in between.
  bool is_full() const {
    constexpr rlim_t kSpare = 64;
    rlimit most{};
    return getrlimit(RLIMIT_NOFILE, &most) == 0 && open_ + kSpare > most.rlim_cur;
  }

  // Where no more can be had they wait in their listeners' queues.
  void pause(bool full) {
    if (full == full_) return;
    full_ = full;
    for (auto& [group, kept] : groups_) {
      if (group->pidfd < 0) continue;
      for (auto& [one, also] : group->watches) {
        if (one->gone || (one->kind != Kind::kListener && one->kind != Kind::kInner)) continue;
        epoll_event event{};
        event.events = full ? 0U : uint32_t{EPOLLIN};
        event.data.ptr = one;
        epoll_ctl(epoll_, EPOLL_CTL_MOD, one->fd, &event);
      }
    }
  }

  // What events of this turn may still name is taken apart at its end. Somebody else may have a
  // descriptor of the same file: it would go on telling of events, and a listener listen.
  void forget(Watch& one) {
    if (one.gone) return;
    one.gone = true;
    dead_.push_back(&one);
    if (one.pair) {
      for (int i = 0; i < 2; ++i) epoll_ctl(epoll_, EPOLL_CTL_DEL, one.pair->socket(i), nullptr);
      one.pair.reset();
      if (one.tunnel) --one.group->tunnels;
      open_ -= 2;
      return;
    }
    epoll_ctl(epoll_, EPOLL_CTL_DEL, one.fd, nullptr);
    if (one.kind == Kind::kListener || one.kind == Kind::kInner) ::shutdown(one.fd, SHUT_RDWR);
    ::close(one.fd);
    --open_;
  }

  void drop(Group& group) {
    Watch* line = group.line;
    for (auto& [one, kept] : group.watches) {
      if (one != line) forget(*one);
    }
    forget(*line);  // last: its end says that all the rest is gone
    ended_.push_back(&group);
  }

  void bury() {
    if (full_ && !is_full()) pause(false);
    for (Watch* one : dead_) one->group->watches.erase(one);
    dead_.clear();
    for (Group* group : ended_) groups_.erase(group);
    ended_.clear();
  }

  const int orders_, epoll_;
  Pipes pipes_;
  std::unordered_map<Watch*, std::unique_ptr<Watch>> own_;
  std::unordered_map<Group*, std::unique_ptr<Group>> groups_;
  std::vector<Watch*> going_on_, dead_;
  std::vector<Group*> ended_;
  rlim_t open_ = 0;  // descriptors
  bool full_ = false, starved_ = false;
};

// In a descriptor table of its own, of which it keeps one.
void live(int orders) {
  prctl(PR_SET_NAME, "pyminicon-relay");
  const auto number = static_cast<unsigned>(orders);
  syscall(kernel::kSysCloseRange, number + 1, ~0U, 0);
  if (number > 0) syscall(kernel::kSysCloseRange, 0, number - 1, 0);
  Relay(orders).serve();
}

enum Birth : int { kUnborn, kBorn, kRefused };

// The socket to this process's thread; a fork makes its own.
struct Begun {
  uint64_t generation;
  Fd orders;
};
std::atomic<Begun*> begun{nullptr};

Begun& relay() {
  Begun* there = begun.load();
  if (there != nullptr && there->generation == fork_generation()) return *there;
  Pipe ends = make_socketpair();
  auto made = std::make_unique<Begun>(Begun{fork_generation(), std::move(ends.write)});
  // The thread's copy of the table has it as well; here it is closed once it has.
  const auto state = std::make_shared<std::atomic<int>>(kUnborn);
  const int orders = ends.read.get();
  begin_thread([orders, state] {
    const bool alone = unshare(CLONE_FILES) == 0;  // a filter may forbid it
    *state = alone ? kBorn : kRefused;
    state->notify_one();
    if (alone) live(orders);
  });
  state->wait(kUnborn);
  if (*state == kRefused) throw LaunchFailure(EPERM, Stage::kPrepare, "unshare");
  if (!begun.compare_exchange_strong(there, made.get())) return *there;
  return *made.release();
}

}  // namespace

Gate::Gate(const std::vector<Published>& published) {
  if (published.size() > kMostPublished) throw LaunchFailure(E2BIG, Stage::kPrepare, "publish");
  Pipe birth = make_socketpair(), line = make_socketpair();
  Ports ports;
  std::vector<int> fds = {birth.read.get(), line.read.get()};
  for (const Published& one : published) {
    ports.port[ports.count++] = one.port;
    fds.push_back(one.listener);
  }
  const int to = relay().orders.get();
  const long sent =
      send_message(to, &ports, sizeof ports, fds.data(), ports.count + 2, MSG_NOSIGNAL);
  if (sent < 0) {
    throw LaunchFailure(static_cast<int>(-sent), Stage::kPrepare, "the thread that serves ports");
  }
  line.read.reset();
  char ready = 0;
  constexpr int kMost = 10000;  // ms
  if (!readable_within({}, line.write.get(), kMost)) {
    throw LaunchFailure(ETIMEDOUT, Stage::kPrepare, "the thread that serves ports");
  }
  if (::read(line.write.get(), &ready, 1) != 1) {
    throw LaunchFailure(EMFILE, Stage::kPrepare, "ports and a proxy",
                        "raise the limit of descriptors: ulimit -n 8192");
  }
  birth_ = std::move(birth.write);
  line_ = std::move(line.write);
}

bool Gate::carry(int one, int other) const {
  const int fds[] = {one, other};
  return send_message(line_.get(), &kCarry, 1, fds, 2, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

void Gate::end(int64_t deadline) {
  birth_.reset();
  if (!line_) return;
  send_message(line_.get(), &kEnd, 1, nullptr, 0, MSG_NOSIGNAL | MSG_DONTWAIT);
  constexpr int64_t kMillisecond = 1000000;
  const int64_t left = std::min((deadline - now_ns()) / kMillisecond, int64_t{60000});
  pollfd watched{line_.get(), 0, 0};
  while (poll(&watched, 1, static_cast<int>(std::max(left, int64_t{0}))) < 0 && errno == EINTR) {
  }
}

}  // namespace pyminicon::parent
