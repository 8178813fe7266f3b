// Kernel constants and structures that the C library's headers may be too old to have.
// Each is fixed ABI; the comment says since which kernel it answers.
#pragma once

#include <stdint.h>

namespace pyminicon::kernel {

// clone(2), clone3(2): namespaces and ways of sharing.
constexpr uint64_t kCloneVm = 0x100, kCloneVfork = 0x4000, kClonePidfd = 0x1000;
constexpr uint64_t kCloneFs = 0x200, kCloneFiles = 0x400, kCloneChildCleartid = 0x200000;
constexpr uint64_t kCloneParentSettid = 0x00100000, kCloneParent = 0x8000;
constexpr uint64_t kCloneSettls = 0x80000;
constexpr uint64_t kCloneNewtime = 0x80, kCloneNewns = 0x20000, kCloneNewcgroup = 0x02000000;
constexpr uint64_t kCloneNewuser = 0x10000000, kCloneNewpid = 0x20000000;
constexpr uint64_t kCloneNewnet = 0x40000000;
constexpr uint64_t kCloneClearSighand = 0x100000000ULL;  // 5.5
constexpr uint64_t kCloneIntoCgroup = 0x200000000ULL;    // 5.7

struct CloneArgs {  // 5.7's size: 88 bytes
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};

// openat2(2), 5.6
struct OpenHow {
  uint64_t flags, mode, resolve;
};
constexpr uint64_t kResolveNoMagiclinks = 0x02, kResolveNoSymlinks = 0x04, kResolveBeneath = 0x08;
constexpr uint64_t kResolveInRoot = 0x10, kResolveNoXdev = 0x01, kResolveCached = 0x20;

// statx(2): the mount's id, 5.8, and where it lies in the answer.
constexpr unsigned kStatxMountId = 0x1000, kStatxMountIdAt = 144;

// The mount API of 5.2, mount_setattr of 5.12.
constexpr unsigned kOpenTreeClone = 1, kOpenTreeCloexec = 02000000, kAtRecursive = 0x8000;
constexpr unsigned kOpenTreeNamespace = 2;  // 7.0
constexpr unsigned kMoveMountFEmptyPath = 4, kMoveMountTEmptyPath = 0x40;
constexpr uint64_t kMountAttrRdonly = 1, kMountAttrNosuid = 2, kMountAttrNodev = 4,
                   kMountAttrNoexec = 8, kMountAttrIdmap = 0x100000;
constexpr unsigned kAtEmptyPath = 0x1000, kAtSymlinkNofollow = 0x100;
constexpr uint64_t kMsPrivate = 1 << 18, kMsRec = 16384, kMsBind = 4096;
struct MountAttr {
  uint64_t attr_set, attr_clr, propagation, userns_fd;
};

constexpr unsigned kCloseRangeUnshare = 2;  // 5.9
constexpr unsigned kCloseRangeCloexec = 4;  // 5.11

// System call numbers shared by all architectures since 5.0.
constexpr long kSysPidfdSendSignal = 424, kSysOpenTree = 428, kSysMoveMount = 429,
               kSysPidfdOpen = 434, kSysClone3 = 435, kSysCloseRange = 436, kSysOpenat2 = 437,
               kSysMountSetattr = 442, kSysLandlockCreateRuleset = 444, kSysLandlockAddRule = 445,
               kSysLandlockRestrictSelf = 446;

// landlock(7): 5.13, "refer" (links and renames between directories) 5.19, version 2.
constexpr uint64_t kLandlockExecute = 1, kLandlockRefer = 1 << 13;
constexpr unsigned kLandlockVersion = 1, kLandlockPathBeneath = 1;
constexpr long kLandlockReferVersion = 2, kLandlockScopeVersion = 6;  // 6.12
constexpr uint64_t kLandlockScopeSignal = 2;
struct LandlockRuleset {  // 8 bytes of it before version 4, 24 from 6 on
  uint64_t handled_access_fs, handled_access_net, scoped;
};
constexpr unsigned long kLandlockRulesetV1 = 8;
struct __attribute__((packed)) LandlockPathBeneath {
  uint64_t allowed_access;
  int32_t parent_fd;
};

}  // namespace pyminicon::kernel
