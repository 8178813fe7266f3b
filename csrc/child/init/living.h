// An init that takes commands: pid 1, which gets messages (base/command.h) and has workers.
//
// A worker waits for a command. It takes one, forks the command's first process and is whose
// children that process's orphans become (PR_SET_CHILD_SUBREAPER), until none is left: so all that
// descends from a command is to be found beneath its worker. Then it waits for the next, unless
// kMostIdle do already: so a command costs one clone, of a process of a few pages. Where nobody
// waits init forks a worker. Init is out of reach of every signal from inside. A worker isn't:
// where one is killed, what it was in charge of is ended.
#pragma once

#include "base/command.h"
#include "child/child.h"

namespace pyminicon::child {

struct InitFds {
  int signals;
  int status;  // where the program's wait status goes
  int parent;  // pidfd of the caller
  int commands, control;
  int proc;                     // the container's procfs, or -1
  int notes_read, notes_write;  // a worker wakes init: it may be that nobody waits for commands
  int begun;                    // what Workers lies in, or -1
  bool at_root;  // the working directory is /; asked before there is a filter that may forbid it
};

constexpr uint32_t kMostWorkers = 8192;
// Instead of a command's number: it waits for one; it is about to end, the latter because none has
// come for long; there is no such worker, which init alone says, when it has buried the one that
// was.
constexpr uint32_t kWaits = ~0U, kLeaves = ~0U - 1, kIdle = ~0U - 2, kNobody = 0;

// In memory that init and its workers share (the caller may read it as well), so that a command
// need not wake init to tell it who has it. Each worker writes what it is at.
//
// Init forks a worker when it is woken and none waits. So somebody has to wake it wherever a
// command may come that nobody waits for: the caller before it sends one beside others
// (InitOrder::kCompany), a worker whose command has ended and left processes, and, while not all of
// what init was told of has been taken, a worker that is the last to take one. Where no command
// has come for kWorkerPatience the workers end, as each holds 60 KiB, and init itself waits.
struct Workers {
  uint32_t begun[kBegunRoom];
  uint32_t used;      // how many of `at` have ever been anybody's
  uint32_t taken;     // commands, by all workers
  uint32_t company;   // so many had been sent when init was last told of company
  uint32_t stopping;  // none is to wait any more
  uint32_t at[kMostWorkers];
};

template <typename T>
T load(const T* from) {
  return __atomic_load_n(from, __ATOMIC_SEQ_CST);
}
template <typename T>
void store(T* to, T value) {
  __atomic_store_n(to, value, __ATOMIC_SEQ_CST);
}

inline void note_beginning(Workers& workers, uint32_t number) {
  uint32_t* const at = &workers.begun[number % kBegunRoom];
  uint32_t last = load(at);
  while (
      is_behind(number, last) &&
      !__atomic_compare_exchange_n(at, &last, number, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
}

inline uint32_t count_waiting(const Workers& workers) {
  uint32_t count = 0;
  for (uint32_t i = 0, used = load(&workers.used); i < used; ++i) {
    count += load(&workers.at[i]) == kWaits ? 1 : 0;
  }
  return count;
}

// A worker, as init knows it: its pid, and which of Workers::at is its.
struct Worker {
  int32_t pid;
  uint32_t slot;
};

// Workers that wait beside each other, as after commands that ran at once.
constexpr uint32_t kMostIdle = 2;
// What init sends a worker whose command is to be ended: it waits for no other afterwards. Blocked,
// as all signals are, it stays pending until the worker asks for it.
constexpr int kLastCommand = 12;  // SIGUSR2

// Init's life, with a program of its own or, where that is 0, with commands alone.
[[noreturn]] void serve(long program, const InitFds& fds);

// A worker's whole life. It is forked from init and inherits its filter, capabilities and limits.
[[noreturn]] void work(const InitFds& fds, Workers& workers, uint32_t slot);

// Memory that is shared with whatever is forked afterwards, a file's where there is one; or null.
void* share_at(uint64_t address, unsigned long size, int file = -1);

// Tells the sender of a command that it can't begin, and lets go of its descriptors.
void refuse_command(int commands, int error);

}  // namespace pyminicon::child
