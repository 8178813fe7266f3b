// Who the program is and what it may: bounding set, ids, capabilities, no_new_privs, landlock,
// seccomp.
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/kernel.h"
#include "base/syscall.h"
#include "child/exec/beside_init.h"
#include "child/exec/stages.h"
#include "child/fd.h"

namespace pyminicon::child {
namespace {

// What is cut from the bounding set no exec can give back: not a setuid program, not a file
// capability. It takes CAP_SETPCAP, so it comes before the uid changes.
long cut_bounding_set(Child& child) {
  const CapabilityPlan& capabilities = child.plan.capabilities;
  for (uint32_t number = 0; number <= capabilities.last && !child.bounded; ++number) {
    if (capabilities.keep >> number & 1) continue;
    const long result = sys::prctl(PR_CAPBSET_DROP, number);
    if (result < 0) return result;
  }
  child.bounded = true;
  return 0;
}

long forbid_new_privileges(const Child& child) {
  return child.plan.capabilities.no_new_privs != 0 ? sys::prctl(PR_SET_NO_NEW_PRIVS, 1) : 0;
}

// Whether what comes after the filter is sure to be allowed by it.
bool is_built_in(const SeccompPlan& seccomp) {
  return seccomp.program != nullptr && seccomp.own == 0 && seccomp.before_capabilities == 0;
}

long install_filter(const SeccompPlan& seccomp) {
  const sock_fprog program{
      static_cast<unsigned short>(seccomp.size),
      const_cast<sock_filter*>(static_cast<const sock_filter*>(seccomp.program))};
  return sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, sys::arg(&program));
}

// Inheritable and ambient are empty (CVE-2022-29162): a program run by another uid inside must not
// find capabilities waiting for it. The kernel takes out of the ambient set what is no longer
// inheritable, which here is nothing. Never asks for more than is permitted: setresuid to a
// non-root user has emptied that already.
long keep_capabilities(uint64_t wanted, uint64_t effective) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct have[2]{};
  if (const long r = sys::call(SYS_capget, sys::arg(&header), sys::arg(have)); r < 0) return r;
  for (int word = 0; word < 2; ++word) {
    const uint32_t keep = static_cast<uint32_t>(wanted >> (32 * word)) & have[word].permitted;
    have[word] = {static_cast<uint32_t>(effective >> (32 * word)) & keep, keep, 0};
  }
  return sys::call(SYS_capset, sys::arg(&header), sys::arg(have));
}

// Only what lies beneath the root may be executed.
long allow_beneath_root() {
  constexpr uint64_t kBeneath = kernel::kLandlockExecute | kernel::kLandlockRefer;
  const kernel::LandlockRuleset handled{kBeneath, 0, 0};
  const Fd rules(sys::call(kernel::kSysLandlockCreateRuleset, sys::arg(&handled),
                           kernel::kLandlockRulesetV1, 0));
  if (rules.failed()) return rules.get();
  // Not child.root: where the caller had closed its own 0, 1 or 2, stdio has taken its number.
  const Fd top(sys::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (top.failed()) return top.get();
  const kernel::LandlockPathBeneath root{kBeneath, top.get()};
  const long added = sys::call(kernel::kSysLandlockAddRule, rules.get(),
                               kernel::kLandlockPathBeneath, sys::arg(&root), 0);
  return added < 0 ? added : sys::call(kernel::kSysLandlockRestrictSelf, rules.get(), 0);
}

// A domain that forbids nothing but to signal whoever isn't in it.
long enter_scope() {
  const kernel::LandlockRuleset scope{0, 0, kernel::kLandlockScopeSignal};
  const Fd rules(sys::call(kernel::kSysLandlockCreateRuleset, sys::arg(&scope), sizeof scope, 0));
  if (rules.failed()) return rules.get();
  return sys::call(kernel::kSysLandlockRestrictSelf, rules.get(), 0);
}

// The kernel kills the container with the thread that it takes for its parent, also where that ends
// in one moment with both guards. A change of ids takes this back, so it comes after. The program
// can leave it: the guards are there for that.
long hold_to_parent(Child& child) {
  constexpr timespec kLookAgain{0, 20000000};
  constexpr int kPatience = 3000;  // a minute: whoever is to settle it was killed, or stopped
  uint32_t* parent = &child.report.parent;
  uint32_t state = 0;
  for (int looked = 0; (state = __atomic_load_n(parent, __ATOMIC_ACQUIRE)) == kParentUnsettled;) {
    if (++looked > kPatience) return -ETIMEDOUT;
    sys::call(SYS_futex, sys::arg(parent), FUTEX_WAIT, state, sys::arg(&kLookAgain));
  }
  return state == kParentStays ? sys::prctl(PR_SET_PDEATHSIG, 9 /* SIGKILL */) : 0;
}

}  // namespace

// Raw system calls: libc's setuid would signal every thread of the process whose memory this is.
// Where this changes anything the memory is our own (birth/separate_memory.h).
long change_user(Child& child) {
  if (const long r = cut_bounding_set(child); r < 0) return r;
  if (child.plan.seccomp.program != nullptr && child.plan.seccomp.before_capabilities != 0) {
    await_init(child);
    if (const long r = install_filter(child.plan.seccomp); r < 0) return r;
  }
  return become_user(child);
}

long set_groups(const IdPlan& ids) {
  return sys::call(SYS_setgroups, ids.groups.size, sys::arg(ids.groups.data));
}

long become_user(Child& child) {
  const IdPlan& ids = child.plan.ids;
  if (ids.set_groups != 0 && !child.has_groups) {
    if (const long r = set_groups(ids); r < 0) return r;
  }
  if (ids.change == 0) return 0;
  if (const long r = sys::call(SYS_setresgid, ids.gid, ids.gid, ids.gid); r < 0) return r;
  return sys::call(SYS_setresuid, ids.uid, ids.uid, ids.uid);
}

long drop_capabilities(Child& child) {
  const CapabilityPlan& plan = child.plan.capabilities;
  if (const long r = keep_capabilities(plan.keep, plan.keep); r < 0) return r;
  if (const long r = hold_to_parent(child); r < 0) return r;
  return forbid_new_privileges(child);
}

// In borrowed memory /proc/self/exe is the caller's interpreter until exec is done, and its open
// files have names in /proc/self/fd: an image's `#!/proc/self/exe` would run the one, and could
// then overwrite it (CVE-2019-5736). The kernel walks up from whatever file it is told to execute,
// however that was named, and finds these nowhere beneath the new root.
long restrict_execution(Child& child) {
  return child.plan.landlock != 0 ? allow_beneath_root() : 0;
}

// The kernel lets a process in a Landlock domain trace, read and take descriptors only where that
// domain reaches (since 5.13), whatever its capabilities. Here the set-up's capabilities are still
// there, so it takes no no_new_privs.
long raise_barrier(Child& child) {
  if (child.plan.barrier == kScopeBarrier) return enter_scope();
  return child.plan.barrier == kExecuteBarrier ? allow_beneath_root() : 0;
}

// The built-in profile allows all that comes until exec, but for the core limit.
long confine_both(Child& child) {
  if (const long r = cut_bounding_set(child); r < 0) return r;
  if (!is_built_in(child.plan.seccomp)) return 0;
  if (const long r = set_core_limit(child); r < 0) return r;
  if (const long r = forbid_new_privileges(child); r < 0) return r;
  child.filtered = true;
  return install_filter(child.plan.seccomp);
}

// Signals to a program of any uid, and other ids for commands. What these may have init has too,
// though not in effect: under no_new_privs exec gives nobody more than he had.
long confine_init(Child& child) {
  constexpr uint64_t kDuties = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;  // KILL SETGID SETUID SETPCAP
  const uint64_t permitted = kDuties | child.plan.capabilities.keep;
  if (const long r = hold_to_parent(child); r < 0) return r;  // what follows doesn't take it back
  if (const long r = sys::call(SYS_setgroups, 0, 0); r < 0 && r != -EPERM) return r;
  if (const long r = cut_bounding_set(child); r < 0) return r;
  const bool apart = child.filters_commands();
  const SeccompPlan& filter = apart ? child.plan.init_seccomp : child.plan.seccomp;
  const bool early = filter.before_capabilities != 0;
  if (filter.program != nullptr && early) {
    if (const long r = install_filter(filter); r < 0) return r;
  }
  if (const long r = keep_capabilities(permitted, kDuties); r < 0) return r;
  if (const long r = forbid_new_privileges(child); r < 0) return r;
  const bool late = filter.program != nullptr && !early && !child.filtered;
  return late ? install_filter(filter) : 0;
}

long load_seccomp(Child& child) {
  const SeccompPlan& seccomp = child.plan.seccomp;
  const bool loaded = child.filtered || seccomp.before_capabilities != 0;
  if (seccomp.program == nullptr || loaded) return 0;
  if (!is_built_in(seccomp)) await_init(child);
  return install_filter(seccomp);
}

}  // namespace pyminicon::child
