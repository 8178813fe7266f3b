#include "child/namespaces/inside.h"

#include <linux/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/kernel.h"
#include "base/syscall.h"

namespace pyminicon::child {
namespace {

// Root is let in as he is. Whoever owns the user namespace alone gets its capabilities by going
// there first: then no id changes, and the memory, which is the caller's, stays as readable as it
// was.
long go(const SocketInside& wish) {
  const long gone = sys::call(SYS_setns, wish.target, static_cast<long>(wish.place));
  if (gone != -EPERM) return gone;
  return sys::call(SYS_setns, wish.target, static_cast<long>(wish.place | kernel::kCloneNewuser));
}

long begin_listening(int fd, const SocketInside& wish) {
  constexpr int kOn = 1, kMost = 4096;  // the kernel takes no more than its somaxconn
  sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, sys::arg(&kOn), sizeof kOn);
  if (static_cast<const sockaddr*>(wish.address)->sa_family == AF_INET6) {
    constexpr int kIpv6 = 41, kV6only = 26;
    sys::call(SYS_setsockopt, fd, kIpv6, kV6only, sys::arg(&kOn), sizeof kOn);
  }
  const long bound = sys::call(SYS_bind, fd, sys::arg(wish.address), wish.size);
  return bound < 0 ? bound : sys::call(SYS_listen, fd, kMost);
}

long make(SocketInside& wish) {
  const int family = static_cast<const sockaddr*>(wish.address)->sa_family;
  constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const long fd = sys::call(SYS_socket, family, kType, 0);
  if (fd < 0) return fd;
  const long result = wish.listens ? begin_listening(static_cast<int>(fd), wish)
                                   : sys::call(SYS_connect, fd, sys::arg(wish.address), wish.size);
  if (result < 0 && result != -EINPROGRESS) {
    sys::close(static_cast<int>(fd));
  } else {
    wish.fd = static_cast<int>(fd);
  }
  return result;
}

}  // namespace

void make_inside(SocketInside& wish) {
  // A core would be a picture of the caller's memory; 1, and not 0, for a pattern that is a pipe.
  constexpr uint64_t kNoCore[2] = {1, 1};
  sys::call(SYS_prlimit64, 0, 4 /* RLIMIT_CORE */, sys::arg(kNoCore), 0);
  sys::prctl(PR_SET_PDEATHSIG, SIGKILL);
  long result = go(wish);
  wish.was_there = result >= 0;
  if (result >= 0) result = make(wish);
  if (result < 0) wish.error = static_cast<int32_t>(-result);
  for (;;) sys::call(SYS_exit, 0);
}

}  // namespace pyminicon::child
