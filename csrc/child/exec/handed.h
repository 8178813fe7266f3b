// Descriptors that came in a message, put where the program is to have them.
#pragma once

#include "base/message.h"
#include "child/child.h"

namespace pyminicon::child {

struct Handed {
  int fds[kMostFds];
  int count = 0;
};

// One message into `bytes`, with its descriptors. Answers its size; 0: nobody is left who could
// send one; -EMFILE where descriptors were lost, -EMSGSIZE where bytes were.
long receive(int socket, void* bytes, unsigned long size, Handed& got);

// Puts the descriptors from number `first` on in place: those of stdio that bit i of `sent` names,
// then those of `pass`. What `kept` points to moves out of their way.
long place_handed(Child& child, Handed& got, int first, uint32_t sent, const View<int32_t>& pass,
                  View<int*> kept);

}  // namespace pyminicon::child
