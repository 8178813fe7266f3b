// A template's container, ready but for what each run says: it sleeps here until its run comes, at
// no cost of CPU. Only ever in the helper's own memory, so that nothing of the caller's is held.
#include <sys/socket.h>

#include "base/syscall.h"
#include "child/child.h"

namespace pyminicon::child {
namespace {

constexpr int kMostFds = 253;  // SCM_MAX_FD

struct Received {
  int fds[kMostFds];
  int count = 0;
  uint64_t run = 0;  // where the RunPlan lies in the shared memory
};

long receive(int socket, Received& got) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof got.fds)];
  iovec data{&got.run, sizeof got.run};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const long size = sys::call(SYS_recvmsg, socket, sys::arg(&message), MSG_CMSG_CLOEXEC);
  if (size <= 0) return size < 0 ? size : -ECANCELED;
  if (size != sizeof got.run) return -EPROTO;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr) return 0;  // a run that was given no descriptor at all
  got.count = static_cast<int>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  const int* fds = reinterpret_cast<const int*>(CMSG_DATA(header));
  for (int i = 0; i < got.count; ++i) got.fds[i] = fds[i];
  return 0;
}

// The run's descriptors keep the numbers they have outside, whatever had those numbers here: the
// new ones go above all of them first.
long place(const View<int32_t>& numbers, Received& got, int first) {
  int highest = 2;
  for (const int32_t number : numbers) highest = number > highest ? number : highest;
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

long park(Child& child) {
  if (child.plan.park_fd < 0) return 0;
  const char ready = 'p';
  if (const long r = sys::write(child.plan.park_fd, &ready, 1); r < 0) return r;
  Received got;
  if (const long r = receive(child.plan.park_fd, got); r < 0) {
    if (r == -ECANCELED) sys::exit_group(0);  // the template is closed: nobody will come
    return r;
  }
  const auto& run = *reinterpret_cast<const RunPlan*>(kHelperPlanAddress + got.run);
  int given = 0;
  for (int i = 0; i < 3; ++i) given += static_cast<int>(run.sent >> i & 1);
  if (got.count != given + static_cast<int>(run.pass.size)) return -EPROTO;
  int highest = 2;
  for (const int32_t number : run.pass) highest = number > highest ? number : highest;
  for (int i = 0; i < given; ++i) {
    if (const long r = save(&got.fds[i], highest); r < 0) return r;
  }
  // The plan is this process's own copy of what it still has to do.
  auto& plan = const_cast<LaunchPlan&>(child.plan);
  int* const needed[] = {&plan.failure_fd, &plan.status_fd, &plan.parent_pidfd};
  for (int* fd : needed) {
    if (const long r = save(fd, highest); r < 0) return r;
  }
  if (run.pass.size > 0) {
    if (const long r = place(run.pass, got, given); r < 0) return r;
  }
  for (int i = 0, next = 0; i < 3; ++i) {
    child.stdio.fd[i] = (run.sent >> i & 1) != 0 ? got.fds[next++] : kNullDevice;
  }
  child.stdio.pass = run.pass;
  child.exec = &run.exec;
  return 0;
}

}  // namespace pyminicon::child
