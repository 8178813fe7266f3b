#include "parent/process/own_proc.h"

#include <unistd.h>

#include <cerrno>
#include <string>

namespace pyminicon::parent {

void insist_on_own_proc(Stage stage) {
  char found[16] = {};
  const ssize_t size = ::readlink("/proc/self", found, sizeof found - 1);
  if (size > 0 && std::to_string(::getpid()) == found) return;
  throw LaunchFailure(ENOENT, stage, "/proc",
                      "it is another PID namespace's, or none: unshare --mount-proc");
}

}  // namespace pyminicon::parent
