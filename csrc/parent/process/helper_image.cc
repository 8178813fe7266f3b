#include "parent/process/helper_image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

#include "helper_blob.h"  // made by the build: kHelperBlob
#include "parent/failure.h"

namespace pyminicon::parent {
namespace {

constexpr unsigned kMfdExec = 0x10;  // Linux 6.3; older kernels answer EINVAL and need no flag

int create() {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const int fd = memfd_create("pyminicon-init", flags | kMfdExec);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create("pyminicon-init", flags);
}

Fd make_image() {
  const MakingFds making;
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

struct Image {
  const uint64_t generation = fork_generation();
  std::mutex lock;
  KeptFd file;
};
std::atomic<Image*> known_image{nullptr};

Fd copy_of(int fd) {
  const MakingFds making;
  Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) throw LaunchFailure(errno, Stage::kHelper, "F_DUPFD_CLOEXEC");
  return copy;
}

}  // namespace

Fd helper_image() {
  Image& image = of_this_process(known_image);
  const std::lock_guard guard(image.lock);
  if (image.file.there()) return copy_of(image.file.get());
  Fd made = make_image();
  Fd copy = copy_of(made.get());
  image.file.keep(std::move(made));
  return copy;
}

}  // namespace pyminicon::parent
