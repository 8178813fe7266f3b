#include "parent/process/standing.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace pyminicon::parent {
namespace {

bool has_effective(int capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  if (syscall(SYS_capget, &header, data) < 0) return false;
  return (data[capability / 32].effective >> (capability % 32) & 1) != 0;
}

// PROC_USER_INIT_INO: the inode that the machine's own user namespace has everywhere.
bool in_first_user_namespace() {
  constexpr uint64_t kFirst = 0xEFFFFFFD;
  struct stat info{};
  return stat("/proc/self/ns/user", &info) < 0 || info.st_ino == kFirst;
}

}  // namespace

bool is_root() {
  // Namespaces and mounts, a loopback, and the ids and capabilities of the program.
  constexpr int kNeeded[] = {CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SETUID, CAP_SETGID, CAP_SETPCAP};
  return geteuid() == 0 && std::all_of(std::begin(kNeeded), std::end(kNeeded), has_effective) &&
         in_first_user_namespace();
}

bool can_make_nodes() { return has_effective(CAP_MKNOD) && in_first_user_namespace(); }

}  // namespace pyminicon::parent
