// The smallest honest payload: no libc, one page of text, so that what is measured is the launch.
//   payload        exits with 0
//   payload w      writes one line to stdout, exits with 0
//   payload s      sleeps until it is killed
//   payload 7      exits with 7 (any digit)
//   payload l      exits with 0 when the loopback interface answers UP, else 1 (used by the tests)

static long call(long n, long a, long b, long c) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return r;
}

static long loopback_is_down(void) {
  struct {
    char name[16];
    short flags;
    char pad[22];
  } ifr = {{'l', 'o', 0}, 0, {0}};
  long fd = call(41 /* socket */, 2 /* AF_INET */, 2 /* SOCK_DGRAM */, 0);
  long r = call(16 /* ioctl */, fd, 0x8913 /* SIOCGIFFLAGS */, (long)&ifr);
  return r < 0 || !(ifr.flags & 1);
}

__attribute__((used, noreturn)) void begin(long* sp) {
  long status = 0;
  if (sp[0] > 1) {
    const char what = *(const char*)sp[2];
    if (what == 'w') call(1 /* write */, 1, (long)"hello from inside\n", 18);
    if (what == 's')
      for (;;) call(34 /* pause */, 0, 0, 0);
    if (what == 'l') status = loopback_is_down();
    if (what >= '0' && what <= '9') status = what - '0';
  }
  for (;;) call(231 /* exit_group */, status, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
