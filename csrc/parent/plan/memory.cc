#include "parent/plan/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "parent/failure.h"

namespace pyminicon::parent {

PlanMemory::~PlanMemory() {
  if (mapped_ != nullptr) munmap(mapped_, size_);
}

void PlanMemory::make_file() {
  file_ = Fd(memfd_create("pyminicon-plan", MFD_CLOEXEC));
  if (!file_) throw LaunchFailure(errno, Stage::kPrepare, "memfd_create");
}

PlanHeader& PlanMemory::settle(Arena& arena) {
  if (!file_) {
    arena.settle(reinterpret_cast<uint64_t>(arena.data()));
    return arena.at<PlanHeader>(0);
  }
  size_ = end_ = arena.size();
  if (size_ > static_cast<size_t>(kHelperPlanMax)) {
    throw LaunchFailure(E2BIG, Stage::kPrepare, "",
                        "arguments, environment and files take 64M together at most");
  }
  if (ftruncate(file_.get(), static_cast<off_t>(size_)) < 0) {
    throw LaunchFailure(errno, Stage::kPrepare, "ftruncate");
  }
  void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (memory == MAP_FAILED) throw LaunchFailure(errno, Stage::kPrepare, "mmap");
  mapped_ = memory;
  arena.settle(kHelperPlanAddress);
  std::memcpy(mapped_, arena.data(), size_);
  arena.settle(reinterpret_cast<uint64_t>(arena.data()) - kHelperPlanAddress);
  return *static_cast<PlanHeader*>(mapped_);
}

uint64_t PlanMemory::append(Arena& arena) {
  constexpr size_t kAlignment = 64;
  const size_t offset = (end_ + kAlignment - 1) / kAlignment * kAlignment;
  if (offset + arena.size() > static_cast<size_t>(kHelperPlanMax)) {
    throw LaunchFailure(E2BIG, Stage::kExec, "");
  }
  arena.settle(kHelperPlanAddress + offset);
  const auto size = static_cast<ssize_t>(arena.size());
  if (pwrite(file_.get(), arena.data(), arena.size(), static_cast<off_t>(offset)) != size) {
    throw LaunchFailure(errno, Stage::kPrepare, "pwrite");
  }
  end_ = offset + arena.size();
  return offset;
}

}  // namespace pyminicon::parent
