#include "child/exec/handed.h"

#include "base/message.h"
#include "base/syscall.h"

namespace pyminicon::child {
namespace {

// The run's descriptors keep the numbers they have outside, whatever had those numbers here: the
// new ones go above all of them first.
long place(const View<int32_t>& numbers, Handed& got, int first, int highest) {
  for (int i = first; i < got.count; ++i) {
    const long moved = sys::fcntl(got.fds[i], F_DUPFD_CLOEXEC, highest + 1);
    if (moved < 0) return moved;
    got.fds[i] = static_cast<int>(moved);
  }
  for (uint32_t i = 0; i < numbers.size; ++i) {
    const long placed =
        sys::call(SYS_dup3, got.fds[first + static_cast<int>(i)], numbers.data[i], O_CLOEXEC);
    if (placed < 0) return placed;
  }
  return 0;
}

// Our own descriptors that a later stage still needs, out of the way of the run's.
long save(int* fd, int highest) {
  if (*fd < 0 || *fd > highest) return 0;
  const long moved = sys::fcntl(*fd, F_DUPFD_CLOEXEC, highest + 1);
  if (moved >= 0) *fd = static_cast<int>(moved);
  return moved < 0 ? moved : 0;
}

}  // namespace

long receive(int socket, void* bytes, unsigned long size, Handed& got) {
  const Received came = receive_message(socket, bytes, size, got.fds, kMostFds, 0);
  got.count = static_cast<int>(came.fds);
  if (came.bytes <= 0) return came.bytes;
  if ((came.flags & MSG_CTRUNC) != 0) return -EMFILE;
  return (came.flags & MSG_TRUNC) != 0 ? -EMSGSIZE : came.bytes;
}

long place_handed(Child& child, Handed& got, int first, uint32_t sent, const View<int32_t>& pass,
                  View<int*> kept) {
  int given = first;
  for (int i = 0; i < 3; ++i) given += static_cast<int>(sent >> i & 1);
  if (got.count != given + static_cast<int>(pass.size)) return -EPROTO;
  int highest = 2;
  for (const int32_t number : pass) highest = number > highest ? number : highest;
  for (int i = first; i < given; ++i) {
    if (const long r = save(&got.fds[i], highest); r < 0) return r;
  }
  for (int* fd : kept) {
    if (const long r = save(fd, highest); r < 0) return r;
  }
  if (pass.size > 0) {
    if (const long r = place(pass, got, given, highest); r < 0) return r;
  }
  for (int i = 0, next = first; i < 3; ++i) {
    child.stdio.fd[i] = (sent >> i & 1) != 0 ? got.fds[next++] : kNullDevice;
  }
  child.stdio.pass = pass;
  return 0;
}

}  // namespace pyminicon::child
