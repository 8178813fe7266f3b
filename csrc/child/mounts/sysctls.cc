#include "child/mounts/sysctls.h"

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/mounts/mount.h"
#include "child/mounts/stages.h"

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

// Of a kernel that hasn't got it, or around which somebody keeps /proc/sys read-only.
bool is_refusal(long error) {
  return error == -ENOENT || error == -EROFS || error == -EACCES || error == -EPERM ||
         error == -EINVAL;
}

bool write_at_once(const char* path, const char* value, uint32_t size) {
  const Fd file(sys::openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC));
  return !file.failed() && sys::write(file.get(), value, size) == size;
}

// With pasta what is sent inside goes farther than to the caller.
bool is_served(const Child& child) { return child.plan.served != 0 && child.plan.way_out_fd < 0; }

}  // namespace

long keep_settings(Child& child, int proc) {
  if (child.plan.sysctls.size == 0) return 0;
  const long opened = sys::openat(proc, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
  child.settings = static_cast<int>(opened);
  return opened < 0 ? opened : 0;
}

bool write_usual() {
  constexpr char kNone[] = "0";
  return write_at_once("/proc/sys/net/ipv4/ip_unprivileged_port_start", kNone, sizeof kNone - 1) &&
         write_at_once("/proc/sys/net/ipv4/ping_group_range", kAllGroups, sizeof kAllGroups - 1);
}

bool write_unpaced() {
  return write_at_once("/proc/sys/net/ipv4/tcp_congestion_control", kUnpaced, sizeof kUnpaced - 1);
}

// What lies below /proc/sys/net is looked up in the network namespace of whoever looks, in any
// procfs: so this must be after that has been entered, and is refused where none has.
long write_sysctls(Child& child) {
  const View<SysctlPlan> sysctls = child.plan.sysctls;
  if (sysctls.size == 0) return 0;
  const bool own = (child.plan.namespaces & kCloneNewnet) != 0;
  const bool has_usual = child.network_joined && child.report.settings == kSettingsWritten;
  const bool has_unpaced = child.network_joined && child.report.unpaced == kSettingsWritten;
  if (own && is_served(child) && !has_unpaced) {
    write_setting(child.settings, {"net/ipv4/tcp_congestion_control", kUnpaced, 1, 0});
  }
  for (uint32_t i = 0; i < sysctls.size; ++i) {
    if (sysctls.data[i].usual != 0 && has_usual) continue;
    child.report.index = static_cast<int32_t>(i);
    const long result = own ? write_setting(child.settings, sysctls.data[i]) : -EPERM;
    if (result < 0 && (sysctls.data[i].usual == 0 || !is_refusal(result))) return result;
  }
  sys::close(child.settings);
  child.settings = -1;
  return 0;
}

}  // namespace pyminicon::child
