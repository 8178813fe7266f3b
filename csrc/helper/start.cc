// Our own tiny static program: no libc, no relocations, a few pages. It starts in 0.06 ms where a
// dynamic glibc program takes ten times that. It lives in a sealed memfd of the embedding process.
//
//   pyminicon-init FD         maps the launch plan in FD and becomes the container (and its init)
//   pyminicon-hold "hold" PIDFD DIRECTORY
//       keeps the scope of systemd's at DIRECTORY until the process PIDFD has ended, and ends what
//       is in it then
//   pyminicon-pasta "pasta" PIDFD NETNS SOCKET PROGRAM WORDS...
//       keeps the pasta of one container
//   pyminicon-watch FD PIDFD SOCKET PIPE
//       ends the containers in the table FD when the process PIDFD has ended, and closes what
//       comes through SOCKET; PIPE is hung up when that process has ended
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/birth/birth.h"
#include "helper/pasta.h"
#include "helper/reaper.h"

namespace pyminicon::helper {
namespace {

int number(const char* text) {
  int value = 0;
  for (; *text >= '0' && *text <= '9'; ++text) value = value * 10 + (*text - '0');
  return value;
}

// What can't be had is the exit status: where the plan isn't mapped there is no report either.
//
// The plan may grow after it was mapped (a parked container's run is written behind it), so its
// whole range is mapped at once.
void* map_shared(int fd, uint64_t address, uint64_t* size) {
  struct statx info{};
  const long looked = sys::call(SYS_statx, fd, sys::arg(""), 0x1000, STATX_SIZE, sys::arg(&info));
  if (looked < 0) sys::exit_group(static_cast<int>(-looked));
  *size = address != 0 ? kHelperPlanMax : info.stx_size;
  const long at =
      sys::call(SYS_mmap, static_cast<long>(address), static_cast<long>(*size),
                PROT_READ | PROT_WRITE, MAP_SHARED | (address != 0 ? MAP_FIXED : 0), fd, 0);
  if (at < 0 && at > -4096) sys::exit_group(static_cast<int>(-at));
  return reinterpret_cast<void*>(at);
}

// A script of an image's can have this program run, with words of its own (`#!/proc/self/exe`).
bool is(const char* word, const char* wanted) {
  while (*word != 0 && *word == *wanted) {
    ++word;
    ++wanted;
  }
  return *word == *wanted;
}

// The guards of the containers are in the owner's cgroup, where one `cgroup.kill`, as service
// managers end a service with it, takes them and the owner at once. This process isn't: the same
// word to the scope ends all containers then. Before Linux 5.14 there is no such file.
void hold(int owner, const char* scope) {
  uint64_t all = ~0ULL;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all), 0, sizeof all);
  sys::prctl(PR_SET_NAME, sys::arg("pyminicon-hold"));
  sys::call(SYS_chdir, sys::arg("/"));
  // Whoever waits for the program before us waits for the end of its output.
  if (owner > 0) sys::call(kernel::kSysCloseRange, 0, owner - 1, 0);
  sys::call(kernel::kSysCloseRange, owner + 1, ~0U, 0);
  const int directory = static_cast<int>(sys::openat(AT_FDCWD, scope, O_PATH | O_DIRECTORY));
  const int all_in_it = static_cast<int>(sys::openat(directory, "cgroup.kill", O_WRONLY));
  sys::close(directory);
  pollfd ended{owner, POLLIN, 0};
  while (ended.revents == 0) sys::call(SYS_ppoll, sys::arg(&ended), 1, 0, 0, 0);
  if (all_in_it >= 0) sys::write(all_in_it, "1", 1);  // this process as well
}

}  // namespace

extern "C" [[noreturn]] void pyminicon_helper_main(const long* stack) {
  const long argc = stack[0];
  const char* const* argv = reinterpret_cast<const char* const*>(stack + 1);
  uint64_t size = 0;
  if (argc == 2) {
    void* plan = map_shared(number(argv[1]), kHelperPlanAddress, &size);
    auto* header = static_cast<PlanHeader*>(plan);
    child::become(header->plan, header->report);
  }
  if (argc == 4 && is(argv[1], "hold")) {
    hold(number(argv[2]), argv[3]);
    sys::exit_group(0);
  }
  if (argc > 6 && is(argv[1], "pasta")) {
    keep_pasta(number(argv[2]), number(argv[3]), number(argv[4]), argv + 5);
  }
  if (argc == 5) {
    const int fd = number(argv[1]);
    void* table = map_shared(fd, 0, &size);
    watch(*static_cast<WatchTable*>(table), fd, number(argv[2]), number(argv[3]), number(argv[4]));
  }
  sys::exit_group(EINVAL);
}

}  // namespace pyminicon::helper

#if defined(__x86_64__)
asm(".globl _start\n_start:\n  xor %ebp,%ebp\n  mov %rsp,%rdi\n  and $-16,%rsp\n"
    "  call pyminicon_helper_main\n");
#else
asm(".globl _start\n_start:\n  mov x29,#0\n  mov x0,sp\n  bl pyminicon_helper_main\n");
#endif

// The compiler turns loops and initialisers into calls of these.
extern "C" {
void* memset(void* to, int value, unsigned long size) {
  auto* bytes = static_cast<unsigned char*>(to);
  for (unsigned long i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(value);
  return to;
}
void* memcpy(void* to, const void* from, unsigned long size) {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  for (unsigned long i = 0; i < size; ++i) out[i] = in[i];
  return to;
}
}
