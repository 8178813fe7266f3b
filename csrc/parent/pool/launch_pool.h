// Launches beside the thread that wants them: a few threads, made at need, that never touch Python.
//
// They are made by the thread that asks and inherit what is that thread's own: affinity, priority,
// capabilities, namespaces. So a pool belongs to one thread; an event loop has one of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace pyminicon::parent {

class LaunchPool {
 public:
  // How many threads it may have here.
  static size_t most_threads();

  LaunchPool();  // throws LaunchFailure
  ~LaunchPool() { close(); }
  LaunchPool(const LaunchPool&) = delete;
  LaunchPool& operator=(const LaunchPool&) = delete;

  // Has `work`, which may not throw, called in one of the threads, in the order of the calls; where
  // no thread can be had, at once in this one. Answers its number.
  uint64_t add(std::function<void()> work);
  // Takes back what nobody has begun. False once it is begun.
  bool withdraw(uint64_t number);
  // What is over since the last call. `fd` is readable while there is something to ask for.
  std::vector<uint64_t> finished();
  int fd() const;

  // Drops what isn't begun. The threads end with what they are at; nobody waits for them.
  void close();
  bool owned() const;  // made by this process, not by the one that forked it

  struct Shared;  // what the threads hold on to

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace pyminicon::parent
