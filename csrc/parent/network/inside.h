// Sockets in a container's network: a process of a few system calls goes there, in the caller's
// memory and with his descriptors, and what it makes is the caller's. Nothing inside takes part.
#pragma once

#include <sys/socket.h>

#include <string>

#include "parent/files/fd.h"

namespace pyminicon::parent {

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

// `host`: the packed bytes of an AF_INET or AF_INET6 address, or a path for AF_UNIX.
Address address_of(int family, const std::string& host, uint16_t port);

// The same for whoever has a descriptor table of his own: what is in it is nobody else's to note.
struct RawSocket {
  int fd = -1, error = 0;
  bool was_there = false;
};
RawSocket make_raw_socket_inside(int target, const Address& address, bool listens);

struct SocketMade {
  Fd fd;
  int error = 0;           // errno; EINPROGRESS with a socket that isn't connected yet
  bool was_there = false;  // false: the way there was refused
};

// Non-blocking, and doesn't wait for a connection; a name of a file system may lead to a server
// that doesn't answer. `target`: a pidfd of the container's.
SocketMade make_socket_inside(int target, const Address& address, bool listens);

}  // namespace pyminicon::parent
