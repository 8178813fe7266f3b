// A child of a worker's that shares its memory and has a stack of its own.
#pragma once

#include "base/syscall.h"

namespace pyminicon::child {

// clone(2), since filters refuse clone3; `entry` never returns. `stack_end` is a multiple of 16.
// Not inlined: the child's registers are those of this frame, which it never goes back to.
#if defined(__x86_64__)
[[gnu::noinline]] inline long clone_onto(unsigned long flags, void* stack_end, int* pidfd,
                                         void (*entry)(void*), void* argument) {
  long result;
  register void (*function)(void*) asm("r8") = entry;  // where the TLS would be, which no flag asks
  register void* value asm("r9") = argument;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"  // the end of the child's chain of frames
      "mov %%r9, %%rdi\n\t"
      "call *%%r8\n\t"
      "hlt\n"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone), "D"(flags), "S"(stack_end), "d"(pidfd), "r"(function), "r"(value)
      : "rcx", "r11", "memory");
  return result;
}
#else
[[gnu::noinline]] inline long clone_onto(unsigned long flags, void* stack_end, int* pidfd,
                                         void (*entry)(void*), void* argument) {
  register long x8 asm("x8") = SYS_clone;
  register long x0 asm("x0") = static_cast<long>(flags);
  register void* x1 asm("x1") = stack_end;
  register int* x2 asm("x2") = pidfd;
  register void (*function)(void*) asm("x9") = entry;
  register void* value asm("x10") = argument;
  asm volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, #0\n\t"
      "mov x0, x10\n\t"
      "blr x9\n\t"
      "brk #0\n"
      "1:"
      : "+r"(x0)
      : "r"(x8), "r"(x1), "r"(x2), "r"(function), "r"(value)
      : "memory", "x30");
  return x0;
}
#endif

}  // namespace pyminicon::child
