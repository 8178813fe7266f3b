// Messages with descriptors between the caller's threads and the one that carries bytes.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace pyminicon::parent {

// To the thread, through a container's line; and from it.
constexpr char kCarry = 'p', kEnd = 'e', kAccepted = 'c', kReady = 'r';

bool send_with_fds(int socket, const void* bytes, size_t size, const int* fds, size_t count,
                   int flags);

struct Received {
  ssize_t bytes;  // 0: the end; -1: not now
  size_t fds;
};
Received receive_with_fds(int socket, void* bytes, size_t size, std::span<int> fds);

void close_fds(const int* fds, size_t count);

}  // namespace pyminicon::parent
