// What the caller serves a container's network by: a listener that the program finds when it
// begins.
#include <linux/in.h>
#include <sys/socket.h>

#include "base/message.h"
#include "base/syscall.h"
#include "child/namespaces/stages.h"

namespace pyminicon::child {
namespace {

uint16_t swapped(uint32_t port) { return static_cast<uint16_t>((port & 0xff) << 8 | port >> 8); }

// At the loopback of the container's own network.
long listen_at(uint32_t port) {
  constexpr int kMost = 4096;  // the kernel takes no more than its somaxconn
  constexpr uint8_t kLoopback[4] = {127, 0, 0, 1};
  const long fd = sys::call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fd;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = swapped(port);
  __builtin_memcpy(&address.sin_addr, kLoopback, sizeof kLoopback);
  long result = sys::call(SYS_bind, fd, sys::arg(&address), sizeof address);
  if (result >= 0) result = sys::call(SYS_listen, fd, kMost);
  if (result >= 0) return fd;
  sys::close(static_cast<int>(fd));
  return result;
}

}  // namespace

// One message, which waits in the socket until somebody reads it.
long open_gate(Child& child) {
  if (child.plan.gate_fd < 0) return 0;
  const long listener = listen_at(child.plan.gate_port);
  if (listener < 0) return listener;
  const int fd = static_cast<int>(listener);
  const long sent = send_message(child.plan.gate_fd, "g", 1, &fd, 1, 0);
  sys::close(fd);
  // It is the caller's line from now on, and nobody's in here: not even init's.
  sys::close(child.plan.gate_fd);
  return sent < 0 ? sent : 0;
}

}  // namespace pyminicon::child
