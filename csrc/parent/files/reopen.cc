#include "parent/files/reopen.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

namespace pyminicon::parent {

// A pipe is its maker's, mode 0600: to open it by its name in /proc is refused to any other uid,
// root without CAP_DAC_OVERRIDE included. Those names are seen only by whoever has the pipe
// already. runc gives it to the one uid that the program begins with; by mode it is open also to
// what that becomes (nginx's workers, su), and in a user namespace that has no name for the maker.
void let_reopen(int fd) {
  struct statfs info{};
  if (fstatfs(fd, &info) < 0 || info.f_type != PIPEFS_MAGIC) return;
  // Another user's pipe that was handed to us can't be opened: it works as it is.
  fchmod(fd, 0666);
}

}  // namespace pyminicon::parent
