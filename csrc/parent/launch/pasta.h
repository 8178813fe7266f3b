// The way out of a container that passt's pasta(1) makes: started when there is a network
// namespace, before the program begins.
#pragma once

#include <string>
#include <vector>

#include "parent/files/fd.h"
#include "parent/process/patience.h"

namespace pyminicon::parent {

// What keeps pasta: nobody's child, and pid 1 of a PID namespace (helper/pasta.h). It ends with the
// container, whoever waits for that, and when this goes.
class WayOut {
 public:
  WayOut() = default;
  WayOut(WayOut&&) = default;
  WayOut& operator=(WayOut&&) = default;
  ~WayOut() { end(); }
  void end();

 private:
  friend WayOut make_way_out(const std::vector<std::string>&, int, int, bool, const Patience&);
  Fd line_, pidfd_;
};

// Returns when the network is up. `command`: pasta's argv. `pid`, `pidfd`: the container's pid 1;
// `joins`: its network is its own user namespace's. Throws LaunchFailure (stage network),
// SetupTimeout.
WayOut make_way_out(const std::vector<std::string>& command, int pid, int pidfd, bool joins,
                    const Patience& patience);

}  // namespace pyminicon::parent
