// Runners (parent/living/living.h) are made where commands pause: in a tight loop nothing is slow
// to join, and to make one takes longer than a short command.
#pragma once

#include <memory>

#include "parent/supervise/limit_thread.h"

namespace pyminicon::parent {

// `container` has begun a command. Unless another begins within 10 ms a runner is made for the next
// one, by a thread that is there for as long as there may be one to make. It never touches Python.
void expect_pause(const std::shared_ptr<Guarded>& container);

}  // namespace pyminicon::parent
