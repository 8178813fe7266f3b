#include "parent/process/helper_image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>

#include "helper_blob.h"  // made by the build: kHelperBlob
#include "parent/process/failure.h"

namespace pyminicon::parent {
namespace {

constexpr unsigned kMfdExec = 0x10;  // Linux 6.3; older kernels answer EINVAL and need no flag

int create() {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const int fd = memfd_create("pyminicon-init", flags | kMfdExec);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create("pyminicon-init", flags);
}

}  // namespace

Fd helper_image() {
  Fd fd(create());
  const auto size = static_cast<ssize_t>(sizeof kHelperBlob);
  if (!fd || ::write(fd.get(), kHelperBlob, sizeof kHelperBlob) != size) {
    throw LaunchFailure(errno, Stage::kHelper, "memfd_create");
  }
  const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  if (fcntl(fd.get(), F_ADD_SEALS, seals) < 0) {
    throw LaunchFailure(errno, Stage::kHelper, "F_ADD_SEALS");
  }
  return fd;
}

}  // namespace pyminicon::parent
