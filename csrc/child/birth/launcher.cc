#include "child/birth/launcher.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/clone.h"
#include "base/message.h"
#include "base/syscall.h"

namespace pyminicon::child {
namespace {

// Each received descriptor gets the number that it has in the caller. A number that another still
// waits in is given up by that one first.
long renumber(BirthOrder& order) {
  const int count = order.count - 1;
  for (int i = 0; i < count; ++i) {
    const int32_t to = order.numbers[i];
    if (order.received[i] == to) continue;
    for (int later = i + 1; later < count; ++later) {
      if (order.received[later] != to) continue;
      const long moved = sys::fcntl(to, F_DUPFD_CLOEXEC, 0);
      if (moved < 0) return moved;
      order.received[later] = static_cast<int32_t>(moved);
    }
    const long result = sys::call(SYS_dup3, order.received[i], to, O_CLOEXEC);
    if (result < 0) return result;
  }
  return 0;
}

long take_surroundings(const BirthOrder& order) {
  for (unsigned i = 0; i < BirthOrder::kLimits; ++i) {
    uint64_t own[2];
    const uint64_t* const wanted = order.limits[i];
    if (const long r = sys::call(SYS_prlimit64, 0, i, 0, sys::arg(own)); r < 0) return r;
    if (own[0] == wanted[0] && own[1] == wanted[1]) continue;
    if (const long r = sys::call(SYS_prlimit64, 0, i, sys::arg(wanted), 0); r < 0) return r;
  }
  // Processors that the new cgroup doesn't have are no reason to fail: no child has more than it.
  if (order.processors_size > 0) {
    sys::call(SYS_sched_setaffinity, 0, order.processors_size, sys::arg(order.processors));
  }
  const uint32_t policy = order.schedule[1];
  if (policy == SCHED_FIFO || policy == SCHED_RR) return 0;  // the plan levels these anyway
  const long result = sys::call(SYS_sched_setattr, 0, sys::arg(order.schedule), 0);
  return result < 0 ? result : 0;
}

// The child, in vfork, on its own stack.
void be_born(void* argument) {
  auto& order = *static_cast<BirthOrder*>(argument);
  long result = renumber(order);
  if (result >= 0) result = take_surroundings(order);
  if (result < 0) {
    order.result = result;
    sys::exit_group(127);
  }
  order.entry(order.argument);
}

long receive(int socket, BirthOrder*& order) {
  int received = 0;
  for (int expected = 1; received < expected; expected = order->count) {
    const uint32_t room = BirthOrder::kMostInMessage;
    int fds[BirthOrder::kMostInMessage];
    const Received got =
        receive_message(socket, static_cast<void*>(&order), sizeof(void*), fds, room, 0);
    if (got.bytes == -EINTR) continue;
    if (got.bytes <= 0) sys::exit_group(0);
    if (got.fds == 0) return -EMFILE;
    for (uint32_t i = 0; i < got.fds; ++i) order->received[received++] = fds[i];
    if ((got.flags & MSG_CTRUNC) != 0) return -EMFILE;
  }
  return 0;
}

void answer(int socket, int pidfd) {
  const char byte = 0;
  send_message(socket, &byte, 1, &pidfd, pidfd >= 0 ? 1 : 0, MSG_NOSIGNAL);
}

void give_birth(LauncherMemory& memory, BirthOrder& order, long error) {
  int pidfd = -1;
  order.result = error;
  if (error == 0) {
    kernel::CloneArgs& args = order.args;
    // CLONE_PARENT: the caller's child. It takes the exit signal from us, and exec makes it
    // SIGCHLD.
    args.flags |= kernel::kCloneParent | kernel::kCloneVm | kernel::kCloneVfork |
                  kernel::kCloneClearSighand | kernel::kClonePidfd;
    args.exit_signal = 0;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    args.cgroup = static_cast<uint64_t>(order.received[order.count - 1]);
    args.stack = reinterpret_cast<uint64_t>(memory.born);
    args.stack_size = sizeof memory.born;
    const long pid = clone_onto_stack(&args, be_born, &order);
    if (order.result == 0 || pid < 0) order.result = pid;
  }
  answer(memory.socket, pidfd);
}

}  // namespace

void serve_births(void* argument) {
  auto& memory = *static_cast<LauncherMemory*>(argument);
  const int socket = memory.socket;
  sys::call(SYS_setsid);
  sys::call(SYS_chdir, sys::arg("/"));  // or it would hold the caller's file system
  sys::prctl(PR_SET_NAME, sys::arg("pyminicon-birth"));
  if (socket > 0) sys::call(kernel::kSysCloseRange, 0, socket - 1, 0);
  sys::call(kernel::kSysCloseRange, socket + 1, ~0U, 0);
  for (;;) {
    BirthOrder* order = nullptr;
    const long error = receive(socket, order);
    give_birth(memory, *order, error);
    if (socket > 0) sys::call(kernel::kSysCloseRange, 0, socket - 1, 0);
    sys::call(kernel::kSysCloseRange, socket + 1, ~0U, 0);
  }
}

}  // namespace pyminicon::child
