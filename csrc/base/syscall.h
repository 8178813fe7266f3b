// Raw system calls that answer -errno and touch nothing else: no TLS, no libc, no lock.
//
// The child of a launch borrows its parent's memory (CLONE_VM), so libc's wrappers are forbidden to
// it: errno is the parent thread's, and setuid(3) would signal every thread of the parent.
#pragma once

#include <asm/errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

namespace pyminicon::sys {

#if defined(__x86_64__)
inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                 long f = 0) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0"
               : "+r"(x0)
               : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
               : "memory");
  return x0;
}
#else
#error "pyminicon knows the system call conventions of x86_64 and aarch64"
#endif

inline long arg(const void* pointer) { return reinterpret_cast<long>(pointer); }

// A filter may refuse even that, one of the user's own that allows too little. To end the one
// thread that there is comes to the same; else only a fault ends us, and whoever waits for a child
// in his memory gets it back. (A pid 1 that is traced doesn't die of a fault.)
[[noreturn]] inline void exit_group(int status) {
  call(SYS_exit_group, status);
  call(SYS_exit, status);
  __builtin_trap();
}

inline long close(int fd) { return call(SYS_close, fd); }
inline long openat(int dir, const char* path, int flags, int mode = 0) {
  return call(SYS_openat, dir, arg(path), flags, mode);
}
inline long read(int fd, void* buffer, unsigned long size) {
  return call(SYS_read, fd, arg(buffer), static_cast<long>(size));
}
inline long write(int fd, const void* bytes, unsigned long size) {
  return call(SYS_write, fd, arg(bytes), static_cast<long>(size));
}
inline long mkdirat(int dir, const char* path, unsigned mode) {
  return call(SYS_mkdirat, dir, arg(path), mode);
}
inline long fcntl(int fd, int command, long value = 0) {
  return call(SYS_fcntl, fd, command, value);
}
inline long prctl(int option, long a = 0, long b = 0, long c = 0, long d = 0) {
  return call(SYS_prctl, option, a, b, c, d);
}
inline long unshare(unsigned long flags) { return call(SYS_unshare, static_cast<long>(flags)); }

// Nanoseconds of CLOCK_MONOTONIC.
inline int64_t now_ns() {
  timespec now{};
  call(SYS_clock_gettime, CLOCK_MONOTONIC, arg(&now));
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

}  // namespace pyminicon::sys
