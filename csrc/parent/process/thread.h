// Threads of the core's own.
#pragma once

#include <functional>

namespace pyminicon::parent {

// A thread that nobody waits for, with all signals blocked: they are the embedding program's
// business. Throws LaunchFailure (stage prepare, "thread") where there is none to be had; the
// caller's signals are as they were, whatever happens.
void begin_thread(std::function<void()> life);

}  // namespace pyminicon::parent
