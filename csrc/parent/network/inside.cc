#include "parent/network/inside.h"

#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>

#include "child/namespaces/inside.h"
#include "parent/process/clone.h"

namespace pyminicon::parent {
namespace {

void enter_network(void* wish) { child::make_inside(*static_cast<child::SocketInside*>(wish)); }

}  // namespace

Address address_of(int family, const std::string& host, uint16_t port) {
  Address made;
  if (family == AF_UNIX) {
    auto& unix_address = reinterpret_cast<sockaddr_un&>(made.bytes);
    const size_t room = sizeof unix_address.sun_path - 1;
    std::memcpy(unix_address.sun_path, host.data(), std::min(host.size(), room));
    made.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + host.size() + 1);
  } else if (family == AF_INET) {
    auto& inet = reinterpret_cast<sockaddr_in&>(made.bytes);
    inet.sin_port = htons(port);
    std::memcpy(&inet.sin_addr, host.data(), std::min(host.size(), sizeof inet.sin_addr));
    made.size = sizeof inet;
  } else {
    auto& inet6 = reinterpret_cast<sockaddr_in6&>(made.bytes);
    inet6.sin6_port = htons(port);
    std::memcpy(&inet6.sin6_addr, host.data(), std::min(host.size(), sizeof inet6.sin6_addr));
    made.size = sizeof inet6;
  }
  made.bytes.ss_family = static_cast<sa_family_t>(family);
  return made;
}

RawSocket make_raw_socket_inside(int target, const Address& address, bool listens) {
  const bool named = address.bytes.ss_family == AF_UNIX;
  child::SocketInside wish{target, named ? kernel::kCloneNewns : kernel::kCloneNewnet, listens,
                           &address.bytes, address.size};
  kernel::CloneArgs args{};
  int pidfd = -1;
  args.flags = kernel::kClonePidfd | kernel::kCloneFiles;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long pid = clone_and_wait(args, enter_network, &wish);
  if (pid < 0) return {-1, static_cast<int>(-pid), false};
  reap(pidfd);
  ::close(pidfd);
  // It was killed before it could say anything.
  if (wish.fd < 0 && wish.error == 0) wish.error = EINTR;
  return {wish.fd, wish.error, wish.was_there};
}

SocketMade make_socket_inside(int target, const Address& address, bool listens) {
  // Where it may take long, a fork doesn't wait for it.
  std::optional<MakingFds> making;
  if (address.bytes.ss_family != AF_UNIX) making.emplace();
  const RawSocket made = make_raw_socket_inside(target, address, listens);
  return {Fd(made.fd), made.error, made.was_there};
}

}  // namespace pyminicon::parent
