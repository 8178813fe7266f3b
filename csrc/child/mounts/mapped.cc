#include "child/mounts/mapped.h"

#include <sys/socket.h>

#include "base/syscall.h"
#include "child/mounts/mount.h"

namespace pyminicon::child {
namespace {

int find(const Mapped& mapped, int32_t key) {
  for (int i = 0; i < mapped.count; ++i) {
    if (mapped.keys[i] == key) return mapped.fds[i];
  }
  return -1;
}

}  // namespace

long receive_maps(Child& child) {
  const IdPlan& ids = child.plan.ids;
  char byte = 1;
  if (const long result = sys::write(ids.ready_fd, &byte, 1); result < 0) return result;
  sys::close(ids.ready_fd);
  Mapped& mapped = child.mapped;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof mapped.fds)];
  iovec data{mapped.keys, sizeof mapped.keys};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const long got = sys::call(SYS_recvmsg, ids.go_fd, sys::arg(&message), MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  sys::close(ids.go_fd);
  if (got == 0) return -ECANCELED;  // the writer gave up and says why itself
  // A limit on descriptors cuts the rest off, and the host's own would be mounted in their place.
  if ((message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) return -EMFILE;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr) return 0;
  mapped.count = static_cast<int>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  const int* fds = reinterpret_cast<const int*>(CMSG_DATA(header));
  for (int i = 0; i < mapped.count; ++i) mapped.fds[i] = fds[i];
  return 0;
}

int mapped_layer(const Child& child, uint32_t layer) {
  return find(child.mapped, static_cast<int32_t>(layer));
}

int mapped_op(const Child& child) { return find(child.mapped, kMappedOp + child.report.index); }

long attach_in_scratch(const Child& child, int mount) {
  char name[] = "m000";
  for (int i = 3, rest = mount; i > 0; --i, rest /= 10)
    name[i] = static_cast<char>('0' + rest % 10);
  if (const long result = make_directory(child.scratch, name, 0700); result < 0) return result;
  const Fd place(sys::openat(child.scratch, name, O_PATH | O_DIRECTORY | O_CLOEXEC));
  return place.failed() ? place.get() : attach(mount, place.get());
}

}  // namespace pyminicon::child
