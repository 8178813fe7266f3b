// Users, clocks, host name and cgroups: the namespaces that need no mount.
#include <time.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/mounts/mapped.h"
#include "child/mounts/mount.h"
#include "child/namespaces/stages.h"

namespace pyminicon::child {
namespace {

unsigned long length(const char* text) {
  unsigned long n = 0;
  while (text[n] != 0) ++n;
  return n;
}

long write_file(const char* path, const char* text) {
  const long fd = sys::openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  const long result = sys::write(static_cast<int>(fd), text, length(text));
  sys::close(static_cast<int>(fd));
  return result < 0 ? result : 0;
}

}  // namespace

long enter_userns(Child& child) {
  const IdPlan& ids = child.plan.ids;
  if (ids.uid_map != nullptr) {
    // setgroups must be denied before the gid map may be written without privilege
    // (user_namespaces(7), since 3.19).
    if (const long r = write_file("/proc/self/setgroups", "deny"); r < 0 && r != -ENOENT) return r;
    if (const long r = write_file("/proc/self/gid_map", ids.gid_map); r < 0) return r;
    if (const long r = write_file("/proc/self/uid_map", ids.uid_map); r < 0) return r;
  } else if (ids.go_fd >= 0) {
    if (const long r = receive_maps(child); r < 0) return r;
  }
  if (ids.become_root == 0) return 0;
  // The last moment at which the caller's own directories can be passed: nobody else may enter the
  // store. What fails here is tried again, and named, when the root is made.
  if (child.plan.root.scratch_dir != nullptr) child.scratch = static_cast<int>(open_disk(child));
  // A file made by an unmapped fsuid is EOVERFLOW: the set-up needs a name inside. The groups
  // first, while the capability to do so is certain.
  if (const long r = sys::call(SYS_setgroups, 0, 0); r < 0 && r != -EPERM) return r;
  if (const long r = sys::call(SYS_setresgid, 0, 0, 0); r < 0) return r;
  return sys::call(SYS_setresuid, 0, 0, 0);
}

// Writing 0 to a v1 `tasks` file moves the single thread that writes. cgroup.procs would move the
// process, for which the kernel waits for an RCU grace period: 8 ms on an idle machine.
long join_cgroups(Child& child) {
  for (uint32_t i = 0; i < child.plan.tasks_fds.size; ++i) {
    child.report.index = static_cast<int32_t>(i);
    const long result = sys::write(child.plan.tasks_fds.data[i], "0", 1);
    if (result < 0) return result;
  }
  return 0;
}

long enter_cgroupns(Child& child) {
  return child.plan.unshare_cgroupns != 0 ? sys::unshare(kernel::kCloneNewcgroup) : 0;
}

// Before the helper's exec, which is what makes it count for the process itself.
long unshare_clock(Child& child) {
  if (const long result = sys::unshare(kernel::kCloneNewtime); result < 0) return result;
  return write_file("/proc/self/timens_offsets", child.plan.time.offsets);
}

// Some kernels (6.1) take the new clock over only at fork and say nothing: look at the clock.
long enter_timens(Child& child) {
  if (child.plan.time.private_clock == 0) return 0;
  timespec now{};
  const long asked = sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, sys::arg(&now));
  if (asked < 0) return asked;
  return static_cast<uint64_t>(now.tv_sec) < child.plan.time.latest ? 0 : -EOPNOTSUPP;
}

long set_hostname(Child& child) {
  const char* name = child.plan.hostname;
  if (name == nullptr) return 0;
  return sys::call(SYS_sethostname, sys::arg(name), static_cast<long>(length(name)));
}

}  // namespace pyminicon::child
