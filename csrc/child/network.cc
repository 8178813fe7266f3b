#include <linux/if.h>
#include <linux/sockios.h>
#include <sys/socket.h>

#include "base/syscall.h"
#include "child/child.h"

namespace pyminicon::child {

// An ioctl on one socket: netlink would be four messages for the same bit.
long bring_up_loopback(Child& child) {
  if (child.plan.loopback == 0) return 0;
  const long fd = sys::call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  ifreq request{};
  request.ifr_ifrn.ifrn_name[0] = 'l';
  request.ifr_ifrn.ifrn_name[1] = 'o';
  request.ifr_ifru.ifru_flags = IFF_UP | IFF_RUNNING;
  const long result = sys::call(SYS_ioctl, fd, SIOCSIFFLAGS, sys::arg(&request));
  sys::close(static_cast<int>(fd));
  return result;
}

}  // namespace pyminicon::child
