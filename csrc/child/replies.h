// What is told of a command: to the caller, and by its first process to its worker.
#pragma once

#include "base/command.h"

namespace pyminicon::child {

// To the caller; `pidfd` goes along unless it is -1.
long tell(int reply, const CommandReply& word, int pidfd);
long tell_failure(int reply, Stage stage, int32_t index, int32_t error);
long tell_failure(int reply, const Report& report);
void tell_beginning(int reply, const Report& report, int32_t pid, int pidfd);

// To the worker: how much of it somebody wants to know, and where to tell.
long hand_over(int worker, uint32_t quiet, int reply);

}  // namespace pyminicon::child
