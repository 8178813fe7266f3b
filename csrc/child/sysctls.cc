#include "child/sysctls.h"

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/mount.h"

namespace pyminicon::child {

using namespace kernel;

namespace {

long write_setting(int settings, const SysctlPlan& setting) {
  const Fd file(open_beneath(settings, setting.path, O_WRONLY, kResolveNoSymlinks));
  if (file.failed()) return file.get();
  uint32_t size = 0;
  while (setting.value[size] != 0) ++size;
  const long written = sys::write(file.get(), setting.value, size);
  if (written < 0) return written;
  return written == size ? 0 : -EINVAL;  // one number is wanted, and there are more
}

}  // namespace

long keep_settings(Child& child, int proc) {
  if (child.plan.sysctls.size == 0) return 0;
  const long opened = sys::openat(proc, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
  child.settings = static_cast<int>(opened);
  return opened < 0 ? opened : 0;
}

// What lies below /proc/sys/net is looked up in the network namespace of whoever looks, in any
// procfs: so this must be after that has been entered, and is refused where none has.
long write_sysctls(Child& child) {
  const View<SysctlPlan> sysctls = child.plan.sysctls;
  if (sysctls.size == 0) return 0;
  const bool own = (child.plan.namespaces & kCloneNewnet) != 0;
  for (uint32_t i = 0; i < sysctls.size; ++i) {
    child.report.index = static_cast<int32_t>(i);
    const long result = own ? write_setting(child.settings, sysctls.data[i]) : -EPERM;
    if (result < 0) return result;
  }
  sys::close(child.settings);
  child.settings = -1;
  return 0;
}

}  // namespace pyminicon::child
