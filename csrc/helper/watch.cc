#include "helper/watch.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/kernel.h"
#include "base/syscall.h"

namespace pyminicon::helper {
namespace {

uint32_t append(char* out, uint32_t at, const char* text) {
  while (*text != 0) out[at++] = *text++;
  out[at] = 0;
  return at;
}

uint32_t append_number(char* out, uint32_t at, int value) {
  char digits[12];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value > 0);
  while (count > 0) out[at++] = digits[--count];
  out[at] = 0;
  return at;
}

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

// The dead owner's children are reaped by somebody else now and their numbers used again: a process
// is ours only if it is the first of a PID namespace below ours ("NSpid: 4711 1").
bool leads_a_pid_namespace(int pid) {
  char path[40];
  append(path, append_number(path, append(path, 0, "/proc/"), pid), "/status");
  char text[4096];
  if (read_file(path, text, sizeof text) <= 0) return false;
  constexpr char kKey[] = "\nNSpid:\t";
  for (const char* at = text; *at != 0; ++at) {
    uint32_t same = 0;
    while (kKey[same] != 0 && at[same] == kKey[same]) ++same;
    if (kKey[same] != 0) continue;
    const char* end = at + same;
    while (*end != '\n' && *end != 0) ++end;
    return end[-1] == '1' && end[-2] == '\t';
  }
  return false;
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

// False at the end, when the owner has closed its own.
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
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    sys::close(*reinterpret_cast<const int*>(CMSG_DATA(header)));
  }
  return true;
}

// See WatchTable::alive.
void announce(WatchTable& table) {
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
  list.futex_offset = reinterpret_cast<const volatile char*>(&table.alive) -
                      reinterpret_cast<const volatile char*>(&entry);
  sys::call(SYS_set_robust_list, sys::arg(&list), sizeof list);
  table.alive = static_cast<uint32_t>(sys::call(SYS_gettid));
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
  static_assert(kFirst == kSlot && 4096 % kSlot == 0, "no slot lies across two pages");
  long from = 0, to = 0;
  while ((from = sys::call(SYS_lseek, table_fd, to, kSeekData)) >= 0) {
    to = sys::call(SYS_lseek, table_fd, from, kSeekHole);
    for (long at = from < kFirst ? kFirst : from; at < to; at += kSlot) {
      end_container(table.slots[(at - kFirst) / kSlot]);
    }
  }
}

}  // namespace

void watch(WatchTable& table, int table_fd, int owner_pidfd, int descriptors) {
  uint64_t all = ~0ULL;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all), 0, sizeof all);
  announce(table);
  // A batch process doesn't preempt whoever it is woken beside, which is the owner.
  const int priority = 0;
  sys::call(SYS_sched_setscheduler, 0, SCHED_BATCH, sys::arg(&priority));
  pollfd watched[] = {{owner_pidfd, POLLIN, 0}, {descriptors, POLLIN, 0}};
  while (watched[0].revents == 0) {
    if (sys::call(SYS_ppoll, sys::arg(watched), 2, 0, 0, 0) <= 0) continue;
    if (watched[1].revents != 0 && !close_next(descriptors)) watched[1].fd = -1;
  }
  end_all(table, table_fd);
  sys::exit_group(0);
}

}  // namespace pyminicon::helper
