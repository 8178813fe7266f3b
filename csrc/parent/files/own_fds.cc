#include "parent/files/own_fds.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace pyminicon::parent {
namespace {

// A bit for each number, of which only the pages in use are there. A program with more than a
// million descriptors has those beyond inherited.
constexpr int kBits = 64, kWords = 1 << 14;
std::atomic<uint64_t> noted[kWords];
std::atomic<int> words_used{0};
// As it was when the fork began: the kernel copies the descriptors first and the memory later, so
// what another thread closes in between is open in the child and no longer noted in its memory.
uint64_t at_fork[kWords];
int words_at_fork = 0;

uint64_t bit_of(int fd) { return uint64_t{1} << (fd % kBits); }

struct Kept {
  std::atomic<int> fd{0};  // 0: free. Written last
  OpenFile file;
};
constexpr int kTaken = -1;
Kept kept[16];

std::atomic<uint64_t> forks{0};
// Threads that make descriptors don't wait for each other; a thread that forks waits for all of
// them.
#if defined(PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP)
constexpr pthread_rwlock_t kUnlocked = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
#else
constexpr pthread_rwlock_t kUnlocked = PTHREAD_RWLOCK_INITIALIZER;
#endif
pthread_rwlock_t making = kUnlocked;
constinit thread_local bool waited_out = false;

// The wait is bounded: what is opened may lie on a file system that answers late, and a signal's
// handler that forks may have interrupted the very thread that makes a descriptor.
void before_fork() {
  constexpr long kMost = 10'000'000, kSecond = 1'000'000'000;  // ns
  timespec until{};
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += kMost;
  if (until.tv_nsec >= kSecond) {
    until.tv_nsec -= kSecond;
    ++until.tv_sec;
  }
  waited_out = pthread_rwlock_timedwrlock(&making, &until) == 0;
  if (!waited_out) return;
  words_at_fork = words_used.load();
  for (int word = 0; word < words_at_fork; ++word) at_fork[word] = noted[word].load();
}

void after_fork_in_parent() {
  if (waited_out) pthread_rwlock_unlock(&making);
}

// A descriptor that was ours a moment ago, and is still of a kind whose end somebody could wait
// for.
bool was_ours(int fd) {
  struct stat info{};
  if (fstat(fd, &info) < 0 || (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) return false;
  return S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode);
}

void close_noted() {
  for (int word = 0; word < words_used.load(); ++word) {
    const uint64_t bits = noted[word].exchange(0);
    const uint64_t before = waited_out && word < words_at_fork ? at_fork[word] & ~bits : 0;
    for (int bit = 0; bit < kBits; ++bit) {
      const int fd = word * kBits + bit;
      if ((bits >> bit & 1) != 0 || ((before >> bit & 1) != 0 && was_ours(fd))) ::close(fd);
    }
  }
}

void close_kept() {
  for (Kept& one : kept) {
    const int fd = one.fd.exchange(0);
    if (fd > 0 && is_still(fd, one.file)) ::close(fd);
  }
}

void after_fork_in_child() {
  forks.fetch_add(1);
  making = kUnlocked;
  close_noted();
  close_kept();
}

// When the module is loaded: the lock of a static's first use might be held when somebody forks.
const int installed = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);

}  // namespace

uint64_t fork_generation() { return installed == 0 ? forks.load(std::memory_order_relaxed) : 0; }

bool mark_file(int fd, OpenFile& file) {
  constexpr int kMark = 62;  // a signal's number that programs hardly choose
  struct stat info{};
  if (fstat(fd, &info) < 0) return false;
  fcntl(fd, F_SETSIG, kMark);
  file = {info.st_dev, info.st_ino, fcntl(fd, F_GETSIG)};
  return true;
}

bool is_still(int fd, const OpenFile& file) {
  struct stat info{};
  return fstat(fd, &info) == 0 && info.st_dev == file.device && info.st_ino == file.inode &&
         fcntl(fd, F_GETSIG) == file.mark;
}

void note_fd(int fd) {
  const int word = fd / kBits;
  if (fd < 0 || word >= kWords) return;
  int used = words_used.load(std::memory_order_relaxed);
  while (used <= word && !words_used.compare_exchange_weak(used, word + 1)) {
  }
  noted[word].fetch_or(bit_of(fd), std::memory_order_relaxed);
}

void forget_fd(int fd) {
  const int word = fd / kBits;
  if (fd >= 0 && word < kWords) noted[word].fetch_and(~bit_of(fd), std::memory_order_relaxed);
}

bool note_kept_fd(int fd, const OpenFile& file) {
  for (Kept& one : kept) {
    int free = 0;
    if (!one.fd.compare_exchange_strong(free, kTaken)) continue;
    one.file = file;
    one.fd = fd;
    return true;
  }
  return false;
}

void forget_kept_fd(int fd) {
  for (Kept& one : kept) {
    int number = fd;
    if (fd > 0 && one.fd.compare_exchange_strong(number, 0)) return;
  }
}

MakingFds::MakingFds() { pthread_rwlock_rdlock(&making); }
MakingFds::~MakingFds() { pthread_rwlock_unlock(&making); }

}  // namespace pyminicon::parent
