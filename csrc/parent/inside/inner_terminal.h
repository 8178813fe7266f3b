// A terminal that a container knows by name: a pair of its own devpts.
#pragma once

#include "parent/files/fd.h"

namespace pyminicon::parent {

struct TerminalPair {
  Fd outer, inner;
};

// Of the devpts at /dev/pts beneath `root`, which is looked at by no link; empty where there is
// none. What is mounted there may hang: call it with patience.
TerminalPair open_inner_terminal(int root);

}  // namespace pyminicon::parent
