// The helper program (csrc/helper) as a sealed file in memory.
#pragma once

#include "parent/files/fd.h"

namespace pyminicon::parent {

// A memfd with the program, sealed against writing: a container that sees it as /proc/1/exe can't
// change what the next launch runs (CVE-2019-5736). One for all launches of a process, so that its
// pages are there once. Throws LaunchFailure (stage helper).
Fd helper_image();

}  // namespace pyminicon::parent
