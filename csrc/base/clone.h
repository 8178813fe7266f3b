// A child with a stack of its own, in the memory of whoever makes it.
#pragma once

#include "base/kernel.h"
#include "base/syscall.h"

namespace pyminicon {

// clone(2) or clone3(2), by `number`; the child goes on in `entry(argument)`, which never returns,
// on the stack that the arguments name. Touches no libc: a child may call it too.
// Not inlined: the child's registers are those of this frame, which it never goes back to. Static:
// each side of the house compiles its own, by its own flags.
#if defined(__x86_64__)
[[gnu::noinline]] static inline long clone_by(long number, long first, long second, long third,
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
      : "a"(number), "D"(first), "S"(second), "d"(third), "r"(function), "r"(value)
      : "rcx", "r11", "memory");
  return result;
}
#else
[[gnu::noinline]] static inline long clone_by(long number, long first, long second, long third,
                                              void (*entry)(void*), void* argument) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = first;
  register long x1 asm("x1") = second;
  register long x2 asm("x2") = third;
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

static inline long clone_onto_stack(kernel::CloneArgs* args, void (*entry)(void*), void* argument) {
  return clone_by(kernel::kSysClone3, sys::arg(args), sizeof *args, 0, entry, argument);
}

// By clone(2), where a filter refuses clone3. `stack_end` is a multiple of 16.
static inline long clone_onto_stack(unsigned long flags, void* stack_end, int* pidfd,
                                    void (*entry)(void*), void* argument) {
  return clone_by(SYS_clone, static_cast<long>(flags), sys::arg(stack_end), sys::arg(pidfd), entry,
                  argument);
}

}  // namespace pyminicon
