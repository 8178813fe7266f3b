#include "parent/network/relay.h"

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/message.h"
#include "parent/failure.h"
#include "parent/network/relay_thread.h"
#include "parent/process/patience.h"
#include "parent/process/thread.h"

namespace pyminicon::parent {
namespace {

enum Birth : int { kUnborn, kBorn, kRefused };

}  // namespace

// Of this process; a fork makes its own. It is never taken apart.
struct Begun {
  uint64_t generation;
  Fd orders;
  std::atomic<uint64_t> taken{0};
};

namespace {

std::atomic<Begun*> begun{nullptr};

uint64_t next_number() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

Begun& relay() {
  Begun* there = begun.load();
  if (there != nullptr && there->generation == fork_generation()) return *there;
  Pipe ends = make_socketpair();
  auto* made = new Begun{fork_generation(), std::move(ends.write)};
  // The thread's copy of the table has it as well; here it is closed once it has.
  const auto state = std::make_shared<std::atomic<int>>(kUnborn);
  const int orders = ends.read.get();
  begin_thread([orders, state, made] {
    const bool alone = unshare(CLONE_FILES) == 0;  // a filter may forbid it
    *state = alone ? kBorn : kRefused;
    state->notify_one();
    if (alone) live_as_relay(orders, made->taken);
  });
  state->wait(kUnborn);
  if (*state == kRefused) throw LaunchFailure(EPERM, Stage::kPrepare, "unshare");
  if (begun.compare_exchange_strong(there, made)) return *made;
  made->orders.reset();  // another was faster: that thread ends
  return *there;
}

}  // namespace

void Room::take(uint32_t count) {
  taken_ += count;
  count_ += count;
  if (!is_full(taken_)) return;
  throw LaunchFailure(EMFILE, Stage::kPrepare, "ports and a proxy",
                      "raise the limit of descriptors: ulimit -n 8192");
}

Gate::Gate(int bell)
    : relay_(relay()), room_(relay_.taken), bell_(bell), number_(next_number()), since_(now_ns()) {
  constexpr uint32_t kLineAndPidfd = 2, kBellAndListener = 2;
  room_.take(kLineAndPidfd + (bell >= 0 ? kBellAndListener : 0));
  Pipe line = make_socketpair();
  line_ = std::move(line.write);
  inner_ = std::move(line.read);
}

Listening Gate::publish(const Address& outside, uint16_t inside) {
  constexpr int kOn = 1, kQueue = 4096;  // the kernel takes no more than its somaxconn
  if (listeners_.size() == kMostPublished) return {E2BIG};
  room_.take(1);
  const MakingFds making;
  const int family = outside.bytes.ss_family;
  Fd made(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) return {errno};
  setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &kOn, sizeof kOn);
  if (family == AF_INET6) setsockopt(made.get(), IPPROTO_IPV6, IPV6_V6ONLY, &kOn, sizeof kOn);
  Address address = outside;
  auto* bare = reinterpret_cast<sockaddr*>(&address.bytes);
  if (::bind(made.get(), bare, address.size) < 0 || ::listen(made.get(), kQueue) < 0 ||
      ::getsockname(made.get(), bare, &address.size) < 0) {
    return {errno};
  }
  listeners_.push_back(std::move(made));
  ports_.push_back(inside);
  // At the same place in both families.
  return {0, ntohs(reinterpret_cast<const sockaddr_in*>(bare)->sin_port)};
}

void Gate::born(int pidfd) {
  const std::lock_guard guard(lock_);
  if (ended_) throw LaunchFailure(ECANCELED, Stage::kGate, "what is served of its network");
  Order order{number_, room_.count(), bell_ >= 0 ? 1U : 0U, static_cast<uint32_t>(ports_.size())};
  std::copy(ports_.begin(), ports_.end(), order.port);
  std::vector<int> fds = {inner_.get(), pidfd};
  if (bell_ >= 0) fds.push_back(bell_);
  for (const Fd& one : listeners_) fds.push_back(one.get());
  const long sent = send_message(relay_.orders.get(), &order, sizeof order, fds.data(),
                                 static_cast<uint32_t>(fds.size()), MSG_NOSIGNAL);
  if (sent < 0) {
    throw LaunchFailure(static_cast<int>(-sent), Stage::kGate, "the thread that serves ports");
  }
  room_.hand_over();
  born_ = true;
  inner_.reset();
  listeners_.clear();
}

bool Gate::carry(int one, int other) const {
  const int fds[] = {one, other};
  return send_message(line_.get(), &kCarry, 1, fds, 2, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

void Gate::end(int64_t deadline) {
  if (relay_.generation != fork_generation()) return;
  {
    const std::lock_guard guard(lock_);
    ended_ = true;
    inner_.reset();
    listeners_.clear();
    if (!born_) return;
  }
  pollfd watched{line_.get(), 0, 0};
  send_message(line_.get(), &kEnd, 1, nullptr, 0, MSG_NOSIGNAL | MSG_DONTWAIT);
  const int64_t left = std::min((deadline - now_ns()) / kMillisecond, int64_t{60000});
  while (poll(&watched, 1, static_cast<int>(std::max(left, int64_t{0}))) < 0 && errno == EINTR) {
  }
}

}  // namespace pyminicon::parent
