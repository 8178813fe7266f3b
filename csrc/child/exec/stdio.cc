#include <asm/ioctls.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/exec/stages.h"
#include "child/mounts/devices.h"

namespace pyminicon::child {

namespace {

// Above 2, where the last step takes it from; `fd` itself, if it was low, closes at exec.
long above_stdio(long fd) {
  return fd < 0 || fd > 2 ? fd : sys::fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, 3);
}

}  // namespace

// Descriptors 0 to 2 are moved out of each other's way first: stdout may be the caller's 0. Only
// then is anything opened, which may take one of their numbers.
long move_stdio(Child& child) {
  int from[3];
  for (int i = 0; i < 3; ++i) {
    from[i] = child.stdio.fd[i];
    if (from[i] == kNullDevice || from[i] == i) continue;
    const long copy = above_stdio(from[i]);
    if (copy < 0) return copy;
    from[i] = static_cast<int>(copy);
  }
  for (int i = 0; i < 3; ++i) {
    child.report.index = i;
    if (from[i] == kNullDevice) {
      const long null = above_stdio(open_own_null());
      if (null < 0) return null;
      from[i] = static_cast<int>(null);
    }
    const long result =
        from[i] == i ? sys::fcntl(i, F_SETFD, 0) : sys::call(SYS_dup3, from[i], i, 0);
    if (result < 0) return result;
  }
  return 0;
}

// The container's own pty; the caller's terminal stays with the caller. Where a caller without
// power maps several ids only we can give it to the program's user (pyminicon/terminal.py does for
// root); whoever may not goes on without opening it again.
long take_terminal(Child& child) {
  if (child.stdio.terminal == 0) return 0;
  const IdPlan& ids = child.plan.ids;
  if (ids.become_root != 0 && ids.change != 0) sys::call(SYS_fchown, 0, ids.uid, -1);
  const long result = sys::call(SYS_ioctl, 0, TIOCSCTTY, 0);
  return result < 0 ? result : 0;
}

// Everything above stdio and the asked-for is marked to close at exec, not closed: the pipe that
// tells of a failing exec has to live until then. One call whatever the number of descriptors; a
// sibling thread's later ones are in its own table, not in this copy.
long close_descriptors(Child& child) {
  const long result = sys::call(kernel::kSysCloseRange, 3, ~0U, kernel::kCloseRangeCloexec);
  if (result < 0) return result;
  for (int32_t fd : child.stdio.pass) {
    child.report.index = fd;
    if (const long kept = sys::fcntl(fd, F_SETFD, 0); kept < 0) return kept;
  }
  return 0;
}

}  // namespace pyminicon::child
