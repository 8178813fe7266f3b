// Which devices a container on cgroup v2 may open, wherever it finds or makes the node: a BPF
// program attached to its cgroup (v1 has files for it, which pyminicon/cgroups writes).
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

#include "parent/cgroup/cgroup.h"
#include "parent/failure.h"
#include "parent/files/fd.h"

namespace pyminicon::parent {
namespace {

constexpr int kAny = -1;
struct Device {
  int major, minor;
};
// docker's list: null zero full random urandom, tty console ptmx, ptys. All are char devices.
constexpr Device kAllowed[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8},     {1, 9},
                               {5, 0}, {5, 1}, {5, 2}, {136, kAny}};

enum Register : uint8_t { kAnswer, kContext, kType, kAccess, kMajor, kMinor };

bpf_insn instruction(int code, Register to, Register from, int16_t offset, int value) {
  bpf_insn made{};
  made.code = static_cast<uint8_t>(code);
  made.dst_reg = to & 0xf;
  made.src_reg = from & 0xf;
  made.off = offset;
  made.imm = value;
  return made;
}
bpf_insn load(Register into, size_t field) {
  return instruction(BPF_LDX | BPF_MEM | BPF_W, into, kContext, static_cast<int16_t>(field), 0);
}
bpf_insn with(int operation, Register what, int value) {
  return instruction(BPF_ALU64 | BPF_K | operation, what, {}, 0, value);
}
bpf_insn skip_unless(Register what, int value, int16_t count) {
  return instruction(BPF_JMP | BPF_K | BPF_JNE, what, {}, count, value);
}

void answer(int allowed, std::vector<bpf_insn>& program) {
  program.push_back(with(BPF_MOV, kAnswer, allowed));
  program.push_back(instruction(BPF_JMP | BPF_EXIT, {}, {}, 0, 0));
}

// access_type is the access (BPF_DEVCG_ACC_*) above the type of the device.
std::vector<bpf_insn> device_program() {
  std::vector<bpf_insn> program = {
      load(kType, offsetof(bpf_cgroup_dev_ctx, access_type)),
      load(kAccess, offsetof(bpf_cgroup_dev_ctx, access_type)),
      with(BPF_AND, kType, 0xffff),
      with(BPF_RSH, kAccess, 16),
      load(kMajor, offsetof(bpf_cgroup_dev_ctx, major)),
      load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  program.push_back(skip_unless(kAccess, BPF_DEVCG_ACC_MKNOD, 2));  // a node by itself is harmless
  answer(1, program);
  constexpr int16_t kAnswerSize = 2;
  for (const Device& device : kAllowed) {
    const bool exact = device.minor != kAny;
    const int16_t rest = exact ? kAnswerSize + 1 : kAnswerSize;
    program.push_back(skip_unless(kType, BPF_DEVCG_DEV_CHAR, static_cast<int16_t>(rest + 1)));
    program.push_back(skip_unless(kMajor, device.major, rest));
    if (exact) program.push_back(skip_unless(kMinor, device.minor, kAnswerSize));
    answer(1, program);
  }
  answer(0, program);
  return program;
}

int bpf(int command, bpf_attr& attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

// The program lives as long as the cgroup it is attached to. Answers 0 or errno.
int attach_to(int directory) {
  const std::vector<bpf_insn> program = device_program();
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.insns = reinterpret_cast<uint64_t>(program.data());
  load.insn_cnt = static_cast<uint32_t>(program.size());
  load.license = reinterpret_cast<uint64_t>("MIT");
  const Fd loaded(bpf(BPF_PROG_LOAD, load));
  if (!loaded) return errno;
  bpf_attr attach{};
  attach.target_fd = static_cast<uint32_t>(directory);
  attach.attach_bpf_fd = static_cast<uint32_t>(loaded.get());
  attach.attach_type = BPF_CGROUP_DEVICE;
  return bpf(BPF_PROG_ATTACH, attach) < 0 ? errno : 0;
}

}  // namespace

// Before the child is born there: no process is ever in the cgroup without it.
void Cgroup::hold_devices() const {
  const Place* place = with(kRoleDevices);
  if (place == nullptr || (place->roles & kRoleV2) == 0) return;
  const Fd directory(::open(place->path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const int error = directory ? attach_to(directory.get()) : errno;
  if (error != 0) {
    throw LaunchFailure(error, Stage::kCgroup, place->path + ": devices",
                        "a container with CAP_SYS_ADMIN is held off the devices by a BPF program, "
                        "which takes CAP_SYS_ADMIN and a kernel with CONFIG_CGROUP_BPF; "
                        "userns=\"private\" needs none");
  }
}

}  // namespace pyminicon::parent
