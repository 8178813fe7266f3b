#include "helper/reaper.h"

#include <linux/wait.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "base/text.h"
#include "helper/leftovers.h"

namespace pyminicon::helper {
namespace {

long read_file(const char* path, char* buffer, uint32_t size) {
  const long fd = sys::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  uint32_t used = 0;
  for (;;) {
    const long got = sys::read(static_cast<int>(fd), buffer + used, size - 1 - used);
    if (got <= 0) break;
    used += static_cast<uint32_t>(got);
  }
  sys::close(static_cast<int>(fd));
  buffer[used] = 0;
  return used;
}

// A file of /proc as it comes: what stands before the line one looks for may be longer than any
// buffer (65,536 supplementary groups).
class Lines {
 public:
  explicit Lines(const char* path)
      : fd_(static_cast<int>(sys::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC))) {}
  ~Lines() {
    if (fd_ >= 0) sys::close(fd_);
  }
  int next() {  // -1 at the end
    if (at_ == size_) {
      size_ = fd_ < 0 ? 0 : sys::read(fd_, text_, sizeof text_);
      at_ = 0;
    }
    return at_ < size_ ? text_[at_++] : -1;
  }

 private:
  int fd_;
  long at_ = 0, size_ = 0;
  char text_[4096];
};

// The dead owner's children are reaped by somebody else now and their numbers used again: a process
// is ours only if it is the first of a PID namespace below ours ("NSpid: 4711 1").
bool leads_a_pid_namespace(int pid) {
  char path[40];
  append(path, append_number(path, append(path, 0, "/proc/"), pid), "/status");
  Lines lines(path);
  constexpr char kKey[] = "NSpid:\t";
  uint32_t same = 0;
  for (int c = lines.next(); kKey[same] != 0; c = lines.next()) {
    if (c < 0) return false;
    if (c == kKey[same]) {
      ++same;
    } else {
      while (c >= 0 && c != '\n') c = lines.next();
      same = 0;
    }
    if (kKey[same] == 0) break;
  }
  int numbers = 1, last = 0;
  for (int c = lines.next(); c >= 0 && c != '\n'; c = lines.next()) {
    if (c == '\t') ++numbers;
    last = c == '\t' ? 0 : last * 10 + (c - '0');
  }
  return numbers > 1 && last == 1;
}

void kill_process(int pid) {
  const long pidfd = sys::call(kernel::kSysPidfdOpen, pid, 0);
  if (pidfd < 0) return;
  if (leads_a_pid_namespace(pid)) {
    sys::call(kernel::kSysPidfdSendSignal, pidfd, SIGKILL, 0, 0);
  }
  sys::close(static_cast<int>(pidfd));
}

long write_file(const char* path, const char* text, uint32_t size) {
  const long fd = sys::openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  const long written = sys::write(static_cast<int>(fd), text, size);
  sys::close(static_cast<int>(fd));
  return written;
}

// Kills what cgroup.procs lists until it lists nothing; a forking bomb loses by its pids limit.
void kill_cgroup(const char* directory) {
  char path[300];
  const uint32_t size = append(path, 0, directory);
  append(path, size, "/cgroup.kill");
  if (write_file(path, "1", 1) >= 0) return;
  static char text[65536];
  for (int round = 0; round < 1000; ++round) {
    append(path, size, "/cgroup.procs");
    if (read_file(path, text, sizeof text) <= 0) return;
    int pid = 0;
    for (const char* at = text; *at != 0; ++at) {
      if (*at != '\n') {
        pid = pid * 10 + (*at - '0');
        continue;
      }
      sys::call(SYS_kill, pid, SIGKILL);
      pid = 0;
    }
    // v1: what is frozen dies only when it goes on.
    append(path, size, "/freezer.state");
    write_file(path, "THAWED", 6);
  }
}

// What the owner sends is closed here, where the kernel's work for it holds up nobody, or, with
// kWatchKeep, stays open until we end as well. False at the end, when the owner has closed its own.
bool close_next(int socket) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  char byte;
  iovec data{&byte, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (sys::call(SYS_recvmsg, socket, sys::arg(&message), MSG_CMSG_CLOEXEC) <= 0) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS && byte != kWatchKeep) {
    sys::close(*reinterpret_cast<const int*>(CMSG_DATA(header)));
  }
  return true;
}

// See WatchTable::alive.
void announce(WatchTable& table, int index) {
  struct Entry {
    Entry* next;
  };
  static struct {
    Entry* first;
    long futex_offset;
    Entry* pending;
  } list;
  static Entry entry;
  auto* head = reinterpret_cast<Entry*>(&list);
  entry.next = head;
  list.first = &entry;
  list.futex_offset = reinterpret_cast<const volatile char*>(&table.alive[index]) -
                      reinterpret_cast<const volatile char*>(&entry);
  sys::call(SYS_set_robust_list, sys::arg(&list), sizeof list);
  table.alive[index] = static_cast<uint32_t>(sys::call(SYS_gettid));
}

void end_container(const WatchSlot& slot) {
  if (slot.pid == 0) return;
  if (slot.cgroup[0] != 0) kill_cgroup(slot.cgroup);
  if (slot.host_pids == 0) kill_process(slot.pid);
}

// To read a page that nobody has written would make it: 4 MiB at the end of every short program.
void end_all(const WatchTable& table, int table_fd) {
  constexpr int kSeekData = 3, kSeekHole = 4;
  constexpr long kFirst = offsetof(WatchTable, slots), kSlot = sizeof(WatchSlot);
  constexpr long kEnd = offsetof(WatchTable, places);
  static_assert(kFirst == kSlot && 4096 % kSlot == 0, "no slot lies across two pages");
  long from = 0, to = 0;
  while ((from = sys::call(SYS_lseek, table_fd, to, kSeekData)) >= 0) {
    to = sys::call(SYS_lseek, table_fd, from, kSeekHole);
    const long end = to < kEnd ? to : kEnd;
    for (long at = from < kFirst ? kFirst : from; at < end; at += kSlot) {
      end_container(table.slots[(at - kFirst) / kSlot]);
    }
  }
}

// A SIGCONT from the kernel every so often, which takes effect whether or not one is stopped:
// whoever stops both guards, at whatever moment, has stopped them for less than a second.
//
// A stop signal throws away a SIGCONT that came just before it and wasn't read yet, and a timer
// whose signal was thrown away is never armed again. So there are several, of which the later ones
// come only if the first has been lost so, and each SIGCONT that is read arms all of them anew. The
// last is for whoever is stopped again and again, all the time.
class Alarms {
 public:
  // Of this process: a new guard has none of its maker's.
  void make() {
    struct {
      void* value;
      int number, how, rest[12];
    } event{nullptr, SIGCONT, 0 /* SIGEV_SIGNAL */, {}};
    static_assert(sizeof event == 64);
    for (int& timer : timers_) {
      const long made =
          sys::call(SYS_timer_create, CLOCK_MONOTONIC, sys::arg(&event), sys::arg(&timer));
      if (made < 0) timer = -1;
    }
    arm();
  }

  void arm() const {
    static constexpr timespec kNext[kCount] = {{0, 400000000}, {0, 600000000}, {5, 0}};
    for (int i = 0; i < kCount; ++i) {
      const timespec once[] = {{0, 0}, kNext[i]};
      if (timers_[i] >= 0) sys::call(SYS_timer_settime, timers_[i], 0, sys::arg(once), 0);
    }
  }

 private:
  static constexpr int kCount = 3;
  int timers_[kCount] = {-1, -1, -1};
};

// One of the two. Both hold the same table, socket and pidfd of the owner.
struct Guard {
  WatchTable& table;
  int table_fd, owner, descriptors;
  int self = -1;       // its own pidfd, by which the next one sees it
  int peer = -1;       // the other one's
  int index = 0;       // which of table.alive
  bool elder = false;  // the other is its child
  Alarms alarms = {};
};

// The owner may launch. It hears this once, and of later ones nothing: nobody may be held up by it.
void say_ready(const Guard& guard) {
  sys::call(SYS_sendto, guard.descriptors, sys::arg("w"), 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
}

int pidfd_of_self() {
  return static_cast<int>(sys::call(kernel::kSysPidfdOpen, sys::call(SYS_getpid), 0));
}

// Goes on in the new guard as well.
void make_peer(Guard& guard) {
  sys::close(guard.peer);
  guard.peer = -1;
  if (guard.self < 0) guard.self = pidfd_of_self();
  if (guard.self < 0) return;  // the new one would see nobody, and make another
  int pidfd = -1;
  const long child = sys::call(SYS_clone, static_cast<long>(kernel::kClonePidfd | SIGCHLD), 0,
                               sys::arg(&pidfd), 0, 0);
  if (child < 0) return;  // tried again by and by
  if (child > 0) {
    guard.peer = pidfd;
    guard.elder = true;
    return;
  }
  guard.peer = guard.self;
  guard.alarms.make();
  guard.self = pidfd_of_self();
  guard.index = 1 - guard.index;
  guard.elder = false;
  announce(guard.table, guard.index);
  say_ready(guard);
}

// An alarm, or the younger has been stopped, which its parent hears of at once.
void hear_signals(const Guard& guard, int signals) {
  char drained[128];
  while (sys::read(signals, drained, sizeof drained) > 0) {
  }
  guard.alarms.arm();
  for (;;) {
    struct {
      int number, error, code, reserved, pid, rest[27];
    } news{};
    const long r =
        sys::call(SYS_waitid, 0 /* P_ALL */, 0, sys::arg(&news), WEXITED | WSTOPPED | WNOHANG, 0);
    if (r < 0 || news.pid == 0) return;
    if (news.code == CLD_STOPPED) sys::call(SYS_kill, news.pid, SIGCONT);
  }
}

// SIGCONT to both, by the kernel, when the owner has ended and with it the other end of the pipe: a
// guard that was stopped goes on then. The socket won't do: each message would wake both for it.
void be_continued_both(int lifeline) {
  sys::fcntl(lifeline, F_SETOWN, -sys::call(SYS_getpgid, 0));
  sys::fcntl(lifeline, 10 /* F_SETSIG */, SIGCONT);
  sys::fcntl(lifeline, F_SETFL, sys::fcntl(lifeline, F_GETFL) | O_ASYNC);
}

void await_end(int pidfd) {
  constexpr timespec kPatience{10, 0};
  pollfd ended{pidfd, POLLIN, 0};
  sys::call(SYS_ppoll, sys::arg(&ended), pidfd < 0 ? 0 : 1, sys::arg(&kPatience), 0, 0);
}

// Until the owner has ended.
void stand_guard(Guard& guard, int signals) {
  constexpr timespec kSoon{0, 50000000};
  for (;;) {
    if (guard.peer < 0) make_peer(guard);
    const bool alone = guard.peer < 0;
    pollfd watched[] = {{guard.owner, POLLIN, 0},
                        {guard.peer, POLLIN, 0},
                        {signals, POLLIN, 0},
                        // By one of the two: the other would be woken for nothing at each run.
                        {guard.elder || alone ? guard.descriptors : -1, POLLIN, 0}};
    sys::call(SYS_ppoll, sys::arg(watched), 4, alone ? sys::arg(&kSoon) : 0, 0, 0);
    if (watched[0].revents != 0) return;
    if (watched[2].revents != 0) hear_signals(guard, signals);
    if (watched[3].revents != 0 && !close_next(guard.descriptors)) guard.descriptors = -1;
    if (watched[1].revents != 0) make_peer(guard);
  }
}

}  // namespace

void watch(WatchTable& table, int table_fd, int owner_pidfd, int descriptors, int lifeline) {
  uint64_t all = ~0ULL;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all), 0, sizeof all);
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    uint64_t mask;
  } action{};  // the owner may have ignored it, and with it the news of a child
  sys::call(SYS_rt_sigaction, SIGCHLD, sys::arg(&action), 0, sizeof action.mask);
  const uint64_t heard = uint64_t{1} << (SIGCHLD - 1) | uint64_t{1} << (SIGCONT - 1);
  const auto signals = static_cast<int>(
      sys::call(SYS_signalfd4, -1, sys::arg(&heard), sizeof heard, SFD_CLOEXEC | SFD_NONBLOCK));
  // A batch process doesn't preempt whoever it is woken beside, which is the owner.
  const int priority = 0;
  sys::call(SYS_sched_setscheduler, 0, SCHED_BATCH, sys::arg(&priority));
  be_continued_both(lifeline);
  Guard guard{table, table_fd, owner_pidfd, descriptors};
  guard.alarms.make();
  guard.self = pidfd_of_self();
  announce(table, guard.index);
  // The second one says that both are ready. Before that one of them alone could be killed, or the
  // other stopped while it has no timer yet, for good.
  make_peer(guard);
  if (guard.peer < 0) say_ready(guard);
  stand_guard(guard, signals);
  end_all(table, table_fd);
  // One at a time; the younger finds nothing left, as a rule.
  if (!guard.elder) await_end(guard.peer);
  remove_leftovers(table);
  sys::exit_group(0);
}

}  // namespace pyminicon::helper
