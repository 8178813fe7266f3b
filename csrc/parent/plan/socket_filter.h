// The filter of a container without a network: no socket can be made but of AF_UNIX.
//
// It stands before the container's own filter, in one program with it: what it lets pass falls
// through into that. So it holds under any profile, and under none.
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <string>

namespace pyminicon {

namespace socket_filter {

#if defined(__x86_64__)
constexpr uint32_t kArch = AUDIT_ARCH_X86_64;
constexpr uint32_t kX32 = 0x40000000;  // the bit of the x32 calls, whose numbers are the same else
// i386: socketcall hides the family behind a pointer, so it goes whole; socket and socketpair with
// it.
constexpr uint32_t kForeign[] = {102, 359, 360};
#elif defined(__aarch64__)
constexpr uint32_t kArch = AUDIT_ARCH_AARCH64;
constexpr uint32_t kX32 = 0;
constexpr uint32_t kForeign[] = {281, 281, 288};  // arm: socket, socketpair
#else
constexpr uint32_t kArch = AUDIT_ARCH_RISCV64;
constexpr uint32_t kX32 = 0;
constexpr uint32_t kForeign[] = {198, 198, 199};
#endif
constexpr uint32_t kIoUringSetup = 425;  // its requests make sockets that no filter sees

constexpr sock_filter load(uint32_t offset) { return {BPF_LD | BPF_W | BPF_ABS, 0, 0, offset}; }
constexpr sock_filter equal(uint32_t value, uint8_t yes, uint8_t no) {
  return {BPF_JMP | BPF_JEQ | BPF_K, yes, no, value};
}
constexpr sock_filter answer(uint32_t value) { return {BPF_RET | BPF_K, 0, 0, value}; }

// The kernel takes the family as an int: the argument's lower half, whatever is above it.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr uint32_t kFamily = offsetof(seccomp_data, args);
#else
constexpr uint32_t kFamily = offsetof(seccomp_data, args) + 4;
#endif

constexpr sock_filter kProgram[] = {
    load(offsetof(seccomp_data, arch)),
    equal(kArch, 0, 8),
    load(offsetof(seccomp_data, nr)),
    {BPF_ALU | BPF_AND | BPF_K, 0, 0, ~kX32},
    equal(SYS_socket, 2, 0),
    equal(SYS_socketpair, 1, 0),
    equal(kIoUringSetup, 9, 10),
    load(kFamily),
    equal(AF_UNIX, 8, 0),
    answer(SECCOMP_RET_ERRNO | EAFNOSUPPORT),
    load(offsetof(seccomp_data, nr)),  // another architecture's call
    equal(kForeign[0], 3, 0),
    equal(kForeign[1], 2, 0),
    equal(kForeign[2], 1, 0),
    equal(kIoUringSetup, 1, 2),
    answer(SECCOMP_RET_ERRNO | EAFNOSUPPORT),
    answer(SECCOMP_RET_ERRNO | EPERM),
};
constexpr sock_filter kAllow = answer(SECCOMP_RET_ALLOW);

}  // namespace socket_filter

// `filter`, packed, with it in front; an empty one allows all else.
inline std::string without_sockets(const std::string& filter) {
  std::string program(reinterpret_cast<const char*>(socket_filter::kProgram),
                      sizeof socket_filter::kProgram);
  if (filter.empty()) {
    return program.append(reinterpret_cast<const char*>(&socket_filter::kAllow),
                          sizeof socket_filter::kAllow);
  }
  return program.append(filter);
}

}  // namespace pyminicon
