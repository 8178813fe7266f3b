#include "parent/network/relay_thread.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/kernel.h"
#include "base/message.h"
#include "parent/network/inside.h"
#include "parent/network/pair.h"

namespace pyminicon::parent {

bool is_full(uint64_t taken) {
  constexpr rlim_t kSpare = 64;
  rlimit most{};
  return getrlimit(RLIMIT_NOFILE, &most) == 0 && taken + kSpare > most.rlim_cur;
}

namespace {

void close_fds(const int* fds, size_t count) {
  for (size_t i = 0; i < count; ++i) ::close(fds[i]);
}

constexpr uint32_t kMostTunnels = 256;  // of one container
constexpr uint32_t kRoomyTunnels = 16;  // whose buffers grow as the kernel lets them

// What nobody reads lies in both our ends, charged to the caller: up to 10 MB for each, as the
// kernel has them grow (net.ipv4.tcp_rmem, tcp_wmem).
void bound_buffers(const std::array<int, 2>& sockets) {
  constexpr int kSize = 256 << 10;
  for (const int fd : sockets) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kSize, sizeof kSize);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSize, sizeof kSize);
  }
}

// Everything in here belongs to the thread, whose descriptor table has nothing else: no Fd, which
// would be noted as the caller's.
class RelayThread {
 public:
  RelayThread(int orders, std::atomic<uint64_t>& taken)
      : orders_(orders), epoll_(epoll_create1(EPOLL_CLOEXEC)), taken_(taken) {
    watch(orders_, EPOLLIN, new_watch(Kind::kOrders, nullptr, orders_));
  }

  void serve() {
    std::array<epoll_event, 128> events;
    while (!left_ || !groups_.empty()) {
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
  enum class Kind { kOrders, kLine, kPidfd, kListener, kInner, kPair };
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
    int pidfd = -1, bell = -1;
    uint64_t number = 0;
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
    taken_ += kind == Kind::kPair ? 2 : 1;
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
        return take_order();
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

  void take_order() {
    Order order;
    std::array<int, kMostPublished + 3> fds{};
    const Received got =
        receive_message(orders_, &order, sizeof order, fds.data(), fds.size(), MSG_DONTWAIT);
    if (got.bytes == 0) {  // there will be none
      left_ = true;
      epoll_ctl(epoll_, EPOLL_CTL_DEL, orders_, nullptr);
    }
    if (got.bytes != sizeof order) return close_fds(fds.data(), got.fds);
    const uint32_t bells = order.has_bell;
    if (got.fds == order.count + 2 + bells) {
      begin_group(order, fds.data(), fds.data() + 2 + bells);
    } else {
      close_fds(fds.data(), got.fds);  // somebody has lowered the limit of descriptors
    }
    taken_ -= order.room;
  }

  void begin_group(const Order& order, const int* own, const int* listeners) {
    auto made = std::make_unique<Group>();
    Group* group = made.get();
    groups_[group] = std::move(made);
    group->number = order.number;
    const bool has_bell = order.has_bell != 0;
    group->pidfd = own[1];
    group->bell = has_bell ? own[2] : -1;
    taken_ += has_bell ? 1 : 0;
    const int line = own[0];
    group->line = new_watch(Kind::kLine, group, line);
    Watch* end = new_watch(Kind::kPidfd, group, group->pidfd);
    for (uint32_t i = 0; i < order.count; ++i) {
      new_watch(Kind::kListener, group, listeners[i])->port = order.port[i];
    }
    if (has_bell) {  // the child has left it there before its program began
      char byte = 0;
      int inner = -1;
      const Received got = receive_message(line, &byte, 1, &inner, 1, MSG_DONTWAIT);
      if (got.fds == 0) return drop(*group);
      new_watch(Kind::kInner, group, inner);
    }
    watch(line, EPOLLIN, group->line);
    watch(group->pidfd, EPOLLIN, end);
    for (auto& [one, kept] : group->watches) {
      if (is_listener(*one)) watch(one->fd, full_ ? 0U : uint32_t{EPOLLIN}, one);
    }
  }

  static bool is_listener(const Watch& one) {
    return one.kind == Kind::kListener || one.kind == Kind::kInner;
  }

  // A pair to be carried; anything else, and the end of the line, is the end of all.
  void obey(Watch& line) {
    char order = 0;
    std::array<int, 2> fds{};
    const Received got = receive_message(line.fd, &order, 1, fds.data(), fds.size(), MSG_DONTWAIT);
    if (got.bytes < 0) return;
    const bool room = line.group->tunnels < kMostTunnels && !is_full(taken_);
    if (got.bytes == 1 && order == kCarry && got.fds == 2 && room) {
      if (++line.group->tunnels > kRoomyTunnels) bound_buffers(fds);
      return begin_pair(*line.group, fds[0], fds[1], true);
    }
    close_fds(fds.data(), got.fds);
    if (got.bytes == 0 || order != kCarry) drop(*line.group);
  }

  void accept_some(Watch& listener) {
    constexpr int kMost = 32;  // at a time
    Group& group = *listener.group;
    for (int i = 0; i < kMost && !listener.gone; ++i) {
      if (is_full(taken_)) return pause(true);
      const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      if (listener.kind == Kind::kListener) {
        lead_inside(group, fd, listener.port);
      } else {
        // Where nobody takes it in time it is closed, and whoever has connected sees that.
        if (rings(group)) send_message(group.line->fd, &kAccepted, 1, &fd, 1, MSG_DONTWAIT);
        ::close(fd);
      }
    }
  }

  // Whoever serves no connection of the container's need not know of it: he is told before the
  // first.
  bool rings(Group& group) {
    if (group.bell < 0) return true;
    const long sent =
        send_message(group.bell, &group.number, sizeof group.number, nullptr, 0, MSG_DONTWAIT);
    if (sent >= 0) close_bell(group);
    return sent >= 0;
  }

  void close_bell(Group& group) {
    if (group.bell < 0) return;
    ::close(std::exchange(group.bell, -1));
    --taken_;
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

  // Where no more can be had they wait in their listeners' queues.
  void pause(bool full) {
    if (full == full_) return;
    full_ = full;
    for (auto& [group, kept] : groups_) {
      for (auto& [one, also] : group->watches) {
        if (one->gone || !is_listener(*one)) continue;
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
      taken_ -= 2;
      return;
    }
    epoll_ctl(epoll_, EPOLL_CTL_DEL, one.fd, nullptr);
    if (is_listener(one)) ::shutdown(one.fd, SHUT_RDWR);
    ::close(one.fd);
    --taken_;
  }

  void drop(Group& group) {
    close_bell(group);
    Watch* line = group.line;
    for (auto& [one, kept] : group.watches) {
      if (one != line) forget(*one);
    }
    forget(*line);  // last: its end says that all the rest is gone
    ended_.push_back(&group);
  }

  void bury() {
    if (full_ && !is_full(taken_)) pause(false);
    for (Watch* one : dead_) one->group->watches.erase(one);
    dead_.clear();
    for (Group* group : ended_) groups_.erase(group);
    ended_.clear();
  }

  const int orders_, epoll_;
  std::atomic<uint64_t>& taken_;  // descriptors, and what others have been promised
  Pipes pipes_;
  std::unordered_map<Watch*, std::unique_ptr<Watch>> own_;
  std::unordered_map<Group*, std::unique_ptr<Group>> groups_;
  std::vector<Watch*> going_on_, dead_;
  std::vector<Group*> ended_;
  bool full_ = false, starved_ = false, left_ = false;
};

}  // namespace

void live_as_relay(int orders, std::atomic<uint64_t>& taken) {
  prctl(PR_SET_NAME, "pyminicon-relay");
  const auto number = static_cast<unsigned>(orders);
  syscall(kernel::kSysCloseRange, number + 1, ~0U, 0);
  if (number > 0) syscall(kernel::kSysCloseRange, 0, number - 1, 0);
  RelayThread(orders, taken).serve();
}

}  // namespace pyminicon::parent
