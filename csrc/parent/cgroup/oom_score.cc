#include "parent/cgroup/oom_score.h"

#include <fcntl.h>

#include <cstdlib>
#include <string>

#include "parent/cgroup/file.h"
#include "parent/files/fd.h"

namespace pyminicon::parent {

int own_oom_score() {
  const Fd file(::open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC));
  char text[16] = {};
  return file && ::read(file.get(), text, sizeof text - 1) > 0 ? std::atoi(text) : 0;
}

void hold_oom_score(int pid, int score) {
  write_file("/proc/" + std::to_string(pid) + "/oom_score_adj", std::to_string(score));
}

}  // namespace pyminicon::parent
