// Facts about parent/network/pair.h: how what it carries is sent on.
#include "parent/network/pair.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

#include "fact.h"

using namespace pyminicon::parent;

namespace {

// Two ends of a connection over the loopback.
std::array<int, 2> connection(int family) {
  const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_storage address{};
  address.ss_family = static_cast<sa_family_t>(family);
  socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (family == AF_INET) {
    reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else {
    reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
  }
  auto* bare = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, bare, size) < 0 || listen(listener, 1) < 0 ||
      getsockname(listener, bare, &size) < 0) {
    close(listener);
    return {-1, -1};
  }
  const int one = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(connect(one, bare, size) == 0);
  const int other = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  close(listener);
  for (const int fd : {one, other}) fcntl(fd, F_SETFL, O_NONBLOCK);
  return {one, other};
}

std::string control_of(int fd) {
  std::array<char, 16> name{};
  socklen_t size = name.size() - 1;
  getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size);
  return name.data();
}

bool waits_for_more(int fd) {
  int off = 0;
  socklen_t size = sizeof off;
  getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &off, &size);
  return off == 0;
}

void what_it_sends_waits_neither_for_more_nor_for_its_turn() {
  for (const int family : {AF_INET, AF_INET6}) {
    const auto [client, outer] = connection(family);
    const auto [inner, server] = connection(family);
    if (client < 0 || inner < 0) {
      CHECK(family == AF_INET6);  // a machine without it
      continue;
    }
    const std::string usual = control_of(outer);
    CHECK(waits_for_more(outer));
    Pair pair(outer, inner);
    for (int i = 0; i < 2; ++i) {
      CHECK(!waits_for_more(pair.socket(i)));
      CHECK(control_of(pair.socket(i)) == "reno");
    }
    for (const int theirs : {client, server}) {
      CHECK(waits_for_more(theirs));
      CHECK(control_of(theirs) == usual);
    }
    close(client);
    close(server);
  }
}

void it_carries_both_ways_and_ends_with_both_halves() {
  Pipes pipes;
  const auto [client, outer] = connection(AF_INET);
  const auto [inner, server] = connection(AF_INET);
  Pair pair(outer, inner);
  std::array<char, 9> got{};
  CHECK(pair.carry(pipes) == Pair::State::kWaits);
  CHECK(write(client, "there", 5) == 5);
  CHECK(write(server, "back", 4) == 4);
  CHECK(pair.carry(pipes) == Pair::State::kWaits);
  CHECK(read(server, got.data(), got.size()) == 5);
  CHECK(read(client, got.data(), got.size()) == 4);
  shutdown(client, SHUT_WR);
  CHECK(pair.carry(pipes) == Pair::State::kWaits);
  CHECK(read(server, got.data(), got.size()) == 0);
  close(server);
  CHECK(pair.carry(pipes) == Pair::State::kEnded);
  CHECK(read(client, got.data(), got.size()) == 0);
  close(client);
}

}  // namespace

int main() {
  SHOW(what_it_sends_waits_neither_for_more_nor_for_its_turn);
  SHOW(it_carries_both_ways_and_ends_with_both_halves);
  return fact::result();
}
