#include <linux/futex.h>
#include <signal.h>
#include <time.h>

#include "base/syscall.h"
#include "child/exec/beside_init.h"
#include "child/exec/stages.h"

namespace pyminicon::child {

// As long as it takes: the end of init is the end of whoever waits here. It looks again now and
// then, should init's waking have been refused (a filter around all of us can refuse any call).
void await_init(const Child& child) {
  constexpr timespec kLookAgain{0, 20000000};
  uint32_t* state = &child.report.init;
  while (__atomic_load_n(state, __ATOMIC_ACQUIRE) == kInitBegins) {
    sys::call(SYS_futex, sys::arg(state), FUTEX_WAIT, kInitBegins, sys::arg(&kLookAgain));
  }
}

// getcwd answers "(unreachable)/..." for a directory outside the root: a leaked descriptor as
// working directory is the way out of CVE-2024-21626.
long change_directory(Child& child) {
  const char* cwd = child.exec->cwd;
  if (const long result = sys::call(SYS_chdir, sys::arg(cwd)); result < 0) return result;
  if (cwd[0] == '/' && cwd[1] == 0) return 0;  // the root itself
  char path[4096];
  const long size = sys::call(SYS_getcwd, sys::arg(path), sizeof path);
  if (size < 0) return size;
  return path[0] == '/' ? 0 : -EXDEV;
}

// Before the ids change, as a launch does it: whoever has root's rights may go where its user
// can't. What only the user himself may enter, without capabilities, is entered afterwards.
long try_directory(Child& child) {
  if (child.is_there) return 0;
  const long result = change_directory(child);
  child.is_there = result >= 0;
  return result == -EACCES ? 0 : result;
}

long enter_directory(Child& child) { return child.is_there ? 0 : change_directory(child); }

namespace {

// ETXTBSY: a template's file was written by the parent a moment ago, and a child that another
// thread cloned meanwhile holds a copy of the descriptor until it execs. That is soon over.
long run_program(Child& child, const char* path) {
  constexpr int kTries = 200;
  const timespec millisecond{0, 1000000};
  for (int left = kTries;; --left) {
    const long result = sys::call(SYS_execve, sys::arg(path), sys::arg(child.exec->argv),
                                  sys::arg(child.exec->envp));
    if (result != -ETXTBSY || left == 0) return result;
    sys::call(SYS_nanosleep, sys::arg(&millisecond), 0);
  }
}

}  // namespace

// The same answers as subprocess gives: go on while there is nothing to run, and of all failures
// report a forbidden file, or else the last.
long execute(Child& child) {
  await_init(child);
  const uint64_t none = 0;
  const long unmasked = sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&none), 0, sizeof none);
  if (unmasked < 0) return unmasked;
  long answer = -ENOENT;
  for (uint32_t i = 0; i < child.exec->candidates.size; ++i) {
    const long result = run_program(child, child.exec->candidates.data[i]);
    if (result == -EACCES || answer != -EACCES) {
      answer = result;
      child.report.index = static_cast<int32_t>(i);
    }
    if (result != -ENOENT && result != -ENOTDIR && result != -EACCES) return result;
  }
  return answer;
}

}  // namespace pyminicon::child
