// A second process of one launch, that makes the network namespace while the child mounts.
#pragma once

#include "base/plan.h"
#include "parent/files/fd.h"
#include "parent/plan/spec.h"

namespace pyminicon::parent {

// From its beginning to its end; where it isn't worth while, or can't be had, clone makes the
// namespace as well.
class NetnsHelper {
 public:
  // `served`: its caller carries bytes to and from the network.
  NetnsHelper(const PlanSpec& spec, bool served, Report& report);
  ~NetnsHelper();  // reaps it
  NetnsHelper(const NetnsHelper&) = delete;
  NetnsHelper& operator=(const NetnsHelper&) = delete;
  bool there() const { return static_cast<bool>(pidfd_); }
  void dismiss();  // ends and reaps it; the network namespace is clone's to make again

 private:
  Fd pidfd_;
  uint64_t generation_;
};

// From now on clone makes the network namespaces of this process.
void leave_netns_helpers_off();

// A launch failed because of its netns helper, and all is undone.
struct NetnsHelperRefused {};

}  // namespace pyminicon::parent
