// Whom the kernel kills first when memory runs out: /proc/PID/oom_score_adj.
#pragma once

namespace pyminicon::parent {

// This process's own; 0 where it can't be read.
int own_oom_score();

// Makes `score` the least that the process `pid` can go back to, where we may (CAP_SYS_RESOURCE).
void hold_oom_score(int pid, int score);

}  // namespace pyminicon::parent
