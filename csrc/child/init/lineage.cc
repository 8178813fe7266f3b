// A process that forks, calls setsid and exits can't be caught by killing what one sees: what one
// sees has gone by then, and its child is somewhere else. So everything is stopped first, by one
// kill(-1) of pid 1's: it holds the lock that fork needs, and a process with a signal pending can't
// finish a fork (copy_process), so nothing that it missed comes after it. Then the container is
// looked at while it holds still, what descends is killed, and the others go on.
//
// A fork that was past that point finishes: its child bears the signal itself (has_settled).
#include "child/init/lineage.h"

#include <linux/wait.h>
#include <signal.h>
#include <time.h>

#include "base/syscall.h"
#include "child/init/census.h"

namespace pyminicon::child {
namespace {

// The processes that are to end.
struct Doom {
  int32_t ancestor;            // all that descends from it, or 0
  const KnownChildren* known;  // or all of pid 1's children but these, with what descends from them

  bool begins_with(const Process& process) const {
    if (ancestor != 0) return process.parent == ancestor;
    if (process.parent != 1) return false;
    for (uint32_t i = 0; i < known->count; ++i) {
      if (known->workers[i].pid == process.pid) return false;
    }
    return true;
  }
};

// Parents mostly have lower pids than their children, so one or two rounds find all.
uint32_t mark(Processes& census, const Doom& doom) {
  uint32_t living = 0;
  for (bool more = true; more;) {
    more = false;
    for (uint32_t i = 0; i < census.count; ++i) {
      Process& process = census.all[i];
      if (process.doomed) continue;
      const Process* parent = census.find(process.parent);
      if (!doom.begins_with(process) && (parent == nullptr || !parent->doomed)) continue;
      process.doomed = more = true;
      living += is_alive(process) ? 1 : 0;
    }
  }
  return living;
}

// A look at some of the processes, which gives up at a moment: where a command forks without end a
// parent may have all the dead that the machine has numbers for, and whoever reads on waits for
// each slice of a processor behind a thousand others.
struct Walk {
  int proc;
  Processes& processes;
  bool blind;  // it is enough to know that they are there
  int64_t until;
};

long meet(int32_t pid, void* walk) {
  const Walk& on = *static_cast<Walk*>(walk);
  Processes& all = on.processes;
  if (sys::now_ns() > on.until) return -ETIME;
  if (!on.blind) {
    look_at(on.proc, pid, all);
  } else if (all.count < Processes::kMost) {
    all.all[all.count++] = {pid, 0, 'S', true, false};
  }
  return 0;
}

// Adds the children of one process to the end of the list. -ETIME: there was no time for all of
// them; another negative number: the kernel doesn't list them.
long walk_to_children(const Walk& walk, int32_t pid) {
  return list_children(walk.proc, {pid, 0, 'S', true, false}, meet, const_cast<Walk*>(&walk));
}

// Adds all that descends from those in the list, as far as the time allows.
void walk_down(Walk walk) {
  for (uint32_t i = 0; i < walk.processes.count && sys::now_ns() < walk.until; ++i) {
    list_children(walk.proc, Process(walk.processes.all[i]), meet, &walk);
  }
}

// Keeps only those of which `is_so` is true.
template <typename IsSo>
void keep(Processes& processes, IsSo is_so) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < processes.count; ++i) {
    if (is_so(processes.all[i])) processes.all[kept++] = processes.all[i];
  }
  processes.count = kept;
}

void sort(Processes& processes) {
  for (uint32_t i = 1; i < processes.count; ++i) {
    const Process process = processes.all[i];
    uint32_t at = i;
    for (; at > 0 && processes.all[at - 1].pid > process.pid; --at) {
      processes.all[at] = processes.all[at - 1];
    }
    processes.all[at] = process;
  }
}

constexpr int64_t kMillisecond = 1000000;

// Finds the processes that aren't to end and are stopped already: they are to stay so. The walk
// goes down from init, as all of /proc is long where a command forks without end, and until
// everything is stopped each look at it waits behind a thousand others for a processor. For the
// same reason the walk gives up after a while; what it hasn't found goes on then.
void find_stopped(int proc, const Doom& doom, Processes& stopped) {
  constexpr int64_t kPatience = 20 * kMillisecond;
  const Walk walk{proc, stopped, false, sys::now_ns() + kPatience};
  stopped.count = 0;
  if (const long r = walk_to_children(walk, 1); r < 0 && r != -ETIME) {
    take_census(proc, stopped);
  } else {
    keep(stopped, [&](const Process& child) {
      return child.pid != doom.ancestor && !doom.begins_with(child);
    });
    walk_down(walk);
  }
  keep(stopped, is_stopped);
  sort(stopped);
}

// A worker ends by itself when nothing is left beneath it.
bool has_ended(int32_t worker) {
  siginfo_t info{};
  constexpr int kLook = WEXITED | WNOHANG | WNOWAIT;
  const long r = sys::call(SYS_waitid, P_PID, worker, sys::arg(&info), kLook, 0);
  return r >= 0 && info.si_pid == worker && info.si_code == CLD_EXITED && info.si_status == 0;
}

// Kills without stopping anybody else, which is enough where the command doesn't fork meanwhile.
// False: it still goes on, or would take longer than is gained by it.
bool end_what_lies_still(int proc, int32_t worker, Processes& found) {
  constexpr int64_t kPatience = 3 * kMillisecond, kEach = kMillisecond / 10;
  constexpr timespec kMoment{0, 250000};
  found.count = 0;
  int64_t until = sys::now_ns() + kPatience;
  const Walk walk{proc, found, true, until};
  if (walk_to_children(walk, worker) < 0) return false;
  walk_down(walk);
  for (uint32_t i = 0; i < found.count; ++i) sys::call(SYS_kill, found.all[i].pid, SIGKILL);
  until += kEach * (found.count < 200 ? found.count : 200);
  bool ended = false;
  while (!(ended = has_ended(worker)) && sys::now_ns() < until) {
    sys::call(SYS_nanosleep, sys::arg(&kMoment), 0);
  }
  return ended;
}

// Children first: a shell that saw its child stopped would take it for a job that was put aside.
void go_on(const Processes& now, const Processes& stopped) {
  for (uint32_t i = now.count; i-- > 0;) {
    const Process& process = now.all[i];
    if (process.doomed || process.pid == 1 || stopped.find(process.pid) != nullptr) {
      continue;
    }
    sys::call(SYS_kill, process.pid, SIGCONT);
  }
}

// Whether all have stopped, and with that every fork that was under way: its child bears the signal
// itself, is seen only then, and would never go on (SIGCONT doesn't reach it, not even one to all,
// since by default it is ignored). Whoever waits for a vfork's child has it already.
bool has_settled(const Processes& census) {
  for (uint32_t i = 0; i < census.count; ++i) {
    const Process& process = census.all[i];
    if (process.pid == 1 || is_stopped(process) || !is_alive(process)) continue;
    bool waits = false;
    for (uint32_t n = 0; process.state == 'D' && n < census.count && !waits; ++n) {
      waits = census.all[n].parent == process.pid && is_stopped(census.all[n]);
    }
    if (!waits) return false;
  }
  return true;
}

// What a killed process still does in the kernel takes a moment, and a processor that this would
// take from it by looking too often.
void await_deaths(uint32_t living) {
  constexpr long kEach = 30000, kLeast = 100000, kMost = 5000000;  // ns
  const long wanted = static_cast<long>(living) * kEach;
  const timespec moment{0, wanted < kLeast ? kLeast : wanted > kMost ? kMost : wanted};
  sys::call(SYS_nanosleep, sys::arg(&moment), 0);
}

// One may have asked for a SIGCONT by a timer of its own. So: until nothing is left, or it can't be
// a matter of time.
constexpr int kMostRounds = 400, kMostUnsettled = 100;

long end_all(int proc, const Doom& doom) {
  Processes stopped, now;
  if (stopped.failed() || now.failed()) return -ENOMEM;
  if (doom.ancestor != 0 && end_what_lies_still(proc, doom.ancestor, now)) return 0;
  find_stopped(proc, doom, stopped);
  long seen = 0;
  int settled = 0, unsettled = 0;
  for (int round = 0; round < kMostRounds; ++round) {
    sys::call(SYS_kill, -1, SIGSTOP);
    // A census that couldn't be taken is taken again: the alternative is to end the container.
    seen = take_census(proc, now);
    const uint32_t living = seen < 0 ? 0 : mark(now, doom);
    if (seen >= 0 && living == 0) {
      // Twice: numbers may be given out from the beginning again, behind the look. Whoever hangs in
      // the kernel is not waited for.
      settled = has_settled(now) ? settled + 1 : 0;
      if (settled == 2 || ++unsettled > kMostUnsettled) break;
    }
    for (uint32_t i = 0; i < now.count; ++i) {
      if (now.all[i].doomed) sys::call(SYS_kill, now.all[i].pid, SIGKILL);
    }
    await_deaths(round < 20 ? living : 60);
  }
  if (seen < 0) {
    sys::call(SYS_kill, -1, SIGCONT);
    return seen;
  }
  go_on(now, stopped);
  return 0;
}

}  // namespace

long end_descendants(int proc, int32_t ancestor) {
  return proc < 0 ? proc : end_all(proc, {ancestor, nullptr});
}

long end_strays(int proc, const KnownChildren& known) {
  return proc < 0 ? proc : end_all(proc, {0, &known});
}

}  // namespace pyminicon::child
