#include "child/init/compact.h"

#include <linux/prctl.h>
#include <sys/mman.h>

#include "base/command.h"
#include "base/syscall.h"

namespace pyminicon::child {
namespace {

// A worker goes on here too, and of those the one that works on files needs most: 80 KiB.
constexpr unsigned long kStack = 128 << 10;
alignas(16) char stack[kStack];

// What procfs shows as the command line, which else would be gone with the old stack. It shows only
// what has become anonymous memory (FOLL_ANON, since Linux 4.17), so no constant.
constexpr char kName[] = "pyminicon-init";
char words[sizeof kName];

#if defined(__x86_64__)
constexpr uint64_t kEnd = 0x7ffffffff000;  // of what any process of this machine has
#else
constexpr uint64_t kEnd = 1ULL << 48;
#endif

uint64_t address(const void* of) { return reinterpret_cast<uint64_t>(of); }

// prctl(2), PR_SET_MM_MAP: where the kernel looks for what procfs tells of this process. Not every
// kernel has it (CONFIG_CHECKPOINT_RESTORE).
long tell_layout() {
  for (unsigned long i = 0; i < sizeof kName; ++i) words[i] = kName[i];
  prctl_mm_map layout{};
  // Which parts of the program are code and data nobody asks.
  layout.start_code = reinterpret_cast<uint64_t>(&tell_layout);
  layout.end_code = layout.start_data = layout.end_data = kWorkersAddress;
  layout.start_brk = layout.brk = kWorkersAddress;
  layout.start_stack = address(stack + kStack);
  layout.arg_start = address(words);
  layout.arg_end = layout.env_start = layout.env_end = address(words + sizeof words);
  layout.exe_fd = ~0U;
  return sys::prctl(PR_SET_MM, PR_SET_MM_MAP, sys::arg(&layout), sizeof layout);
}

struct Next {
  void (*entry)(void*);
  void* argument;
};

[[noreturn]] void go_on(void* next) {
  // Where that fails (a kernel that doesn't let go of its vdso) there is more memory in use.
  if (tell_layout() >= 0) {
    constexpr uint64_t kAbove = kCommandAddress + kMostCommand;
    sys::call(SYS_munmap, static_cast<long>(kAbove), static_cast<long>(kEnd - kAbove));
  }
  static_cast<const Next*>(next)->entry(static_cast<const Next*>(next)->argument);
  __builtin_unreachable();
}

}  // namespace

void compact(void (*entry)(void*), void* argument) {
  static Next next;
  next = {entry, argument};
  void* const top = stack + kStack;
#if defined(__x86_64__)
  asm volatile(
      "mov %0, %%rsp\n\t"
      "xor %%ebp, %%ebp\n\t"  // the end of the chain of frames
      "call *%1\n\t"
      "hlt"
      :
      : "r"(top), "r"(&go_on), "D"(&next)
      : "memory");
#else
  register void* argument_register asm("x0") = &next;
  asm volatile(
      "mov sp, %0\n\t"
      "mov x29, #0\n\t"
      "blr %1\n\t"
      "brk #0"
      :
      : "r"(top), "r"(&go_on), "r"(argument_register)
      : "memory");
#endif
  __builtin_unreachable();
}

}  // namespace pyminicon::child
