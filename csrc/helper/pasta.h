// What keeps passt's pasta(1) for one container: pid 1 of a PID namespace with pasta in it, so that
// the kernel ends pasta when this ends, however that happens.
//
// The parent death signal can't do this: pasta changes its credentials, which clears it.
#pragma once

namespace pyminicon::helper {

// `container`: a pidfd; when it has ended, so does this. `netns`: what pasta is to serve.
// `report`: a socket to whoever launches. Through it go 'r' when the network is up, else 'e' and
// pasta's words, or 'x' and the errno of its exec; when its other end is closed this ends.
[[noreturn]] void keep_pasta(int container, int netns, int report, const char* const* argv);

}  // namespace pyminicon::helper
