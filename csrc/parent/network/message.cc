#include "parent/network/message.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace pyminicon::parent {

bool send_with_fds(int socket, const void* bytes, size_t size, const int* fds, size_t count,
                   int flags) {
  std::vector<char> control(CMSG_SPACE(count * sizeof(int)));
  iovec data{const_cast<void*>(bytes), size};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  }
  return sendmsg(socket, &message, flags) >= 0;
}

Received receive_with_fds(int socket, void* bytes, size_t size, std::span<int> fds) {
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  iovec data{bytes, size};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  Received got{recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT), 0};
  if (got.bytes < 0) return got;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr) return got;
  got.fds = std::min((header->cmsg_len - CMSG_LEN(0)) / sizeof(int), fds.size());
  std::memcpy(fds.data(), CMSG_DATA(header), got.fds * sizeof(int));
  return got;
}

void close_fds(const int* fds, size_t count) {
  for (size_t i = 0; i < count; ++i) ::close(fds[i]);
}

}  // namespace pyminicon::parent
