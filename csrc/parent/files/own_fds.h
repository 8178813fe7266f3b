// Which descriptors are ours alone: what a fork's child doesn't inherit.
//
// Close-on-exec is no help where a program forks workers. A worker that another thread forks during
// a launch would hold a pipe's write end, a lock or a mount namespace for as long as it lives. So
// each descriptor of the core's is noted here from its making on, and the child of a fork closes
// them all before anything else runs in it. No lock is held while a launch is going on.
#pragma once

#include <atomic>
#include <cstdint>

namespace pyminicon::parent {

// Grows by one in every child of fork(2): what was made before belongs to another process.
uint64_t fork_generation();

// What a process has one of, made at first need and never destroyed: threads launch until the end.
// After a fork a new one is made and the parent's left alone, whose lock may be held by a thread
// that isn't here.
template <typename T>
T& of_this_process(std::atomic<T*>& current) {
  T* known = current.load();
  if (known != nullptr && known->generation == fork_generation()) return *known;
  auto* fresh = new T;
  if (current.compare_exchange_strong(known, fresh)) return *fresh;
  delete fresh;
  return *current.load();
}

void note_fd(int fd);
void forget_fd(int fd);  // before it is closed or handed on

// An open file, to be told from another that has come to bear its number. All eventfds, inotify
// descriptors and (before Linux 6.9) pidfds of a machine have one inode; so it bears a mark as
// well, in a field that the kernel has for each open file and that has no other use here: the
// signal of O_ASYNC, which isn't set (fcntl(2), F_SETSIG). Where that is refused the inode must do.
struct OpenFile {
  uint64_t device = 0, inode = 0;
  int mark = 0;
};
bool mark_file(int fd, OpenFile& file);
bool is_still(int fd, const OpenFile& file);

// The same for what is kept as long as the process: a program that closes all its descriptors may
// have the number for a file of its own by now, which its workers are to have. Answers whether
// there was room.
bool note_kept_fd(int fd, const OpenFile& file);
void forget_kept_fd(int fd);

// While descriptors are made that aren't noted yet: a fork waits for the end of it, a short time.
class MakingFds {
 public:
  MakingFds();
  ~MakingFds();
  MakingFds(const MakingFds&) = delete;
  MakingFds& operator=(const MakingFds&) = delete;
};

}  // namespace pyminicon::parent
