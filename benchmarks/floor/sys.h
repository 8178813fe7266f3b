// Raw system calls: no errno, no locks, nothing of libc's state. The child of the floor shares its
// parent's memory, so it may call nothing else.
#pragma once

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

namespace floor_bench {

inline long sys(long n, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  long r;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(r)
                   : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return r;
}

inline long arg(const void* p) { return reinterpret_cast<long>(p); }

// clone3 with a stack of its own: only the parent returns from here.
inline long clone_call(clone_args* args, int (*body)(void*), void* data) {
  long r;
  register long r12 __asm__("r12") = arg(reinterpret_cast<void*>(body));
  register long r13 __asm__("r13") = arg(data);
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r13, %%rdi\n\t"
      "call *%%r12\n\t"
      "mov %%eax, %%edi\n\t"
      "mov $231, %%eax\n\t"
      "syscall\n\t"
      "1:"
      : "=a"(r)
      : "a"(435L), "D"(args), "S"(sizeof *args), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory", "rdx", "r8", "r9", "r10");
  return r;
}

// Through the vDSO: no system call, no thread-local state.
inline uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return uint64_t(t.tv_sec) * 1000000000u + uint64_t(t.tv_nsec);
}

}  // namespace floor_bench
