// A message with descriptors through a Unix socket (unix(7), SCM_RIGHTS): for whoever sends or
// takes one, the child without libc as well as the caller's threads.
#pragma once

#include <stdint.h>
#include <sys/socket.h>

#include "base/syscall.h"

namespace pyminicon {

constexpr uint32_t kMostFds = 253;  // SCM_MAX_FD: the kernel takes no more in one

struct ControlRoom {
  alignas(cmsghdr) char bytes[CMSG_SPACE(kMostFds * sizeof(int))];
};

// How many bytes were sent, or -errno.
inline long send_message(int socket, const void* bytes, unsigned long size, const int* fds,
                         uint32_t count, int flags) {
  if (count > kMostFds) return -EINVAL;
  ControlRoom control;
  iovec data{const_cast<void*>(bytes), size};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    int* const sent = reinterpret_cast<int*>(CMSG_DATA(header));
    for (uint32_t i = 0; i < count; ++i) sent[i] = fds[i];
  }
  return sys::call(SYS_sendmsg, socket, sys::arg(&message), flags);
}

struct Received {
  long bytes;    // 0: nobody is left who could send one; or -errno
  uint32_t fds;  // that came with it
  int flags;     // MSG_TRUNC, MSG_CTRUNC: something had no room
};

// The descriptors are close-on-exec; more than `room` are lost (MSG_CTRUNC), by the kernel.
inline Received receive_message(int socket, void* bytes, unsigned long size, int* fds,
                                uint32_t room, int flags) {
  ControlRoom control;
  iovec data{bytes, size};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  // Not CMSG_SPACE: what is rounded up there has room for one more, which nobody would look for.
  message.msg_controllen = CMSG_LEN((room < kMostFds ? room : kMostFds) * sizeof(int));
  const long got = sys::call(SYS_recvmsg, socket, sys::arg(&message), flags | MSG_CMSG_CLOEXEC);
  Received received{got, 0, message.msg_flags};
  const cmsghdr* const header = got < 0 ? nullptr : CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return received;
  received.fds = static_cast<uint32_t>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  const int* const came = reinterpret_cast<const int*>(CMSG_DATA(header));
  for (uint32_t i = 0; i < received.fds; ++i) fds[i] = came[i];
  return received;
}

}  // namespace pyminicon
