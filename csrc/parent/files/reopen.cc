#include "parent/files/reopen.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>

namespace pyminicon::parent {

// A pipe is its maker's, mode 0600: to open it by its name in /proc is refused to any other uid,
// root without CAP_DAC_OVERRIDE included. Those names are seen only by whoever has the pipe
// already. runc gives it to the one uid that the program begins with; by mode it is open also to
// what that becomes (nginx's workers, su), and in a user namespace that has no name for the maker.
bool let_reopen(int fd) {
  constexpr mode_t kAll = 0666;
  struct stat about{};
  if (fstat(fd, &about) < 0) return errno != EBADF;
  if (!S_ISFIFO(about.st_mode) || (about.st_mode & kAll) == kAll) return true;
  struct statfs tree{};
  // Another user's pipe that was handed to us can't be opened: it works as it is.
  if (fstatfs(fd, &tree) == 0 && tree.f_type == PIPEFS_MAGIC) fchmod(fd, kAll);
  return true;
}

}  // namespace pyminicon::parent
