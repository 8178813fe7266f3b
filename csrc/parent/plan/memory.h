// The plan and the report, readable by the child: in our own memory, or in a file that both map.
#pragma once

#include <cstddef>

#include "base/plan.h"
#include "parent/files/fd.h"
#include "parent/plan/arena.h"

namespace pyminicon::parent {

class PlanMemory {
 public:
  PlanMemory() = default;
  PlanMemory(const PlanMemory&) = delete;
  PlanMemory& operator=(const PlanMemory&) = delete;
  ~PlanMemory();

  // Before settle(): the plan is for the helper, which maps this file. Throws LaunchFailure.
  void make_file();
  int file() const { return file_.get(); }

  // Gives the plan its addresses. The arena must stay for as long as the child borrows our memory;
  // with a file the arena's own copy is good for enter(), the file's for the helper.
  PlanHeader& settle(Arena& arena);

  // More for the helper: settles `arena` behind what the file has and answers its offset there.
  uint64_t append(Arena& arena);

 private:
  Fd file_;
  void* mapped_ = nullptr;
  size_t size_ = 0;
  size_t end_ = 0;  // of the file
};

}  // namespace pyminicon::parent
