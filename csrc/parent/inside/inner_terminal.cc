#include "parent/inside/inner_terminal.h"

#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include <string>

#include "base/kernel.h"
#include "parent/files/own_fds.h"

namespace pyminicon::parent {
namespace {

constexpr unsigned long kGetPeer = _IO('T', 0x41);  // TIOCGPTPEER, Linux 4.13

// To open a device is to wake its driver: only the one that makes terminals.
bool makes_terminals(int fd) {
  struct statfs tree;
  struct stat about;
  const dev_t maker = makedev(5, 2);
  return fstatfs(fd, &tree) == 0 && tree.f_type == DEVPTS_SUPER_MAGIC && fstat(fd, &about) == 0 &&
         S_ISCHR(about.st_mode) && about.st_rdev == maker;
}

}  // namespace

TerminalPair open_inner_terminal(int root) {
  constexpr uint64_t kWay =
      kernel::kResolveInRoot | kernel::kResolveNoMagiclinks | kernel::kResolveNoSymlinks;
  const kernel::OpenHow how{O_PATH | O_CLOEXEC, 0, kWay};
  const MakingFds making;
  const Fd maker(
      static_cast<int>(syscall(kernel::kSysOpenat2, root, "dev/pts/ptmx", &how, sizeof how)));
  if (!maker || !makes_terminals(maker.get())) return {};
  const std::string name = "/proc/thread-self/fd/" + std::to_string(maker.get());
  constexpr int kTerminal = O_RDWR | O_NOCTTY | O_CLOEXEC;
  TerminalPair made{Fd(::open(name.c_str(), kTerminal)), {}};
  int locked = 0;
  if (!made.outer || ioctl(made.outer.get(), TIOCSPTLCK, &locked) < 0) return {};
  made.inner = Fd(ioctl(made.outer.get(), kGetPeer, kTerminal));
  return made.inner ? std::move(made) : TerminalPair{};
}

}  // namespace pyminicon::parent
