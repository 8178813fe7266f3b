// An init that takes commands: pid 1, which gets messages (base/command.h) and has workers.
//
// A worker waits for a command. It takes one, forks the command's first process and is whose
// children that process's orphans become (PR_SET_CHILD_SUBREAPER), until none is left: so all that
// descends from a command is to be found beneath its worker. Then it waits for the next, unless
// kMostIdle do already: so a command costs one fork, of a process of a few pages. Where a command
// comes and nobody waits init forks a worker. Init is out of reach of every signal from inside. A
// worker isn't: where one is killed, what it was in charge of is ended.
#pragma once

#include "child/child.h"

namespace pyminicon::child {

struct InitFds {
  int signals;
  int status;  // where the program's wait status goes
  int parent;  // pidfd of the caller
  int commands, control;
  int proc;                     // the container's procfs, or -1
  int taken_read, taken_write;  // a worker says what it has taken, or that it waits (Taken)
};

// In the order of their numbers in `all`: what init keeps open.
constexpr int kInitFds = 8;

struct Taken {
  int32_t worker;
  uint32_t number;  // the command's; 0: it waits
};

// Workers that wait beside each other, as after commands that ran at once.
constexpr uint32_t kMostIdle = 2;
// What init sends a worker whose command is to be ended: it waits for no other afterwards. Blocked,
// as all signals are, it stays pending until the worker asks for it.
constexpr int kLastCommand = 12;  // SIGUSR2

// Init's life, with a program of its own or, where that is 0, with commands alone.
[[noreturn]] void serve(long program, const InitFds& fds);

// A worker's whole life. It is forked from init and inherits its filter, capabilities and limits.
// `idle`: in memory that all of them share, how many wait; null: there is none.
[[noreturn]] void work(const InitFds& fds, uint32_t* idle);

// Tells the sender of a command that it can't begin, and lets go of its descriptors.
void refuse_command(int commands, int error);

}  // namespace pyminicon::child
