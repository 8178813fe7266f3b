// The stages of the other namespaces, of cgroups and of the network; each answers 0 or -errno.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

long enter_userns(Child&);
long join_cgroups(Child&);
long enter_cgroupns(Child&);
long unshare_clock(Child&);
long enter_timens(Child&);
long set_hostname(Child&);
long enter_network(Child&);
long await_loopback(Child&);
long open_gate(Child&);

}  // namespace pyminicon::child
