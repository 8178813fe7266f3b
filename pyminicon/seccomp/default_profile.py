"""The default filter: which system calls a container may make, by theme.

A call answers normally if a group of ``ALLOWED`` names it and, where that group asks for a capability,
the container has one of those. A call that Linux has and no such group names answers EPERM; a number
that this table doesn't know answers ENOSYS, which is what makes a libc fall back to an older call.

Names are those of 64-bit architectures (the only entry points that stay open); a name that an
architecture doesn't have does nothing there.
"""

from __future__ import annotations

from errno import ENOSYS, EPERM, EPROTONOSUPPORT

from pyminicon.options import capabilities
from pyminicon.seccomp.layout import AFTER_NEXT, HAS, HIGH, IS, NEXT, Line, among
from pyminicon.seccomp.rules import ALLOW, ERRNO

_DONE = ERRNO  # the answer of a call that isn't made: success
_REFUSED, _NO_PROTOCOL = ERRNO | EPERM, ERRNO | EPROTONOSUPPORT

# What any program does; nothing here reaches beyond what the container's own namespaces, mounts and
# credentials already decide.
_FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync flock fstat fstatfs
    fsync ftruncate futimesat getcwd getdents getdents64 lchown link linkat lseek lstat mkdir mkdirat mknod
    mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2
    read readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile splice stat statfs statx
    symlink symlinkat sync sync_file_range sync_file_range2 syncfs tee truncate umask unlink unlinkat utime
    utimensat utimes vmsplice write writev cachestat statmount listmount
    fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr lsetxattr
    removexattr setxattr getxattrat listxattrat removexattrat setxattrat
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch pipe pipe2 poll ppoll pselect6 select
    signalfd signalfd4 io_cancel io_destroy io_getevents io_pgetevents io_submit
"""
_MEMORY = """
    brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
    mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
    remap_file_pages
"""
# ptrace and process_vm_* reach only processes of the same PID namespace and credentials; before Linux 4.8
# they could step around a filter, and nothing that old is supported. uprobe and uretprobe are made by the
# kernel's own trampolines: refused, a program that the host traces dies.
_PROCESSES = """
    arch_prctl clone execve execveat exit exit_group fork get_robust_list getpgid getpgrp getpid getppid
    getpriority getrusage getsid gettid kill pidfd_open pidfd_send_signal prctl process_mrelease
    process_vm_readv process_vm_writev ptrace restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo set_robust_list
    set_thread_area get_thread_area set_tid_address setpgid setpriority setsid sigaltstack tgkill tkill
    vfork wait4 waitid pause uprobe uretprobe futex futex_requeue futex_wait futex_waitv futex_wake getcpu
    ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield getrlimit setrlimit prlimit64 personality
"""
# seccomp and landlock only ever take rights away.
_CREDENTIALS = """
    capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid
    setgroups setregid setresgid setresuid setreuid setuid seccomp landlock_add_rule landlock_create_ruleset
    landlock_restrict_self
"""
# adjtimex and clock_adjtime read the clock's state; the kernel itself asks CAP_SYS_TIME of a change.
_TIME = """
    adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep
    setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
    timerfd_gettime timerfd_settime times
"""
_TALKING = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
    sendmsg sendto setsockopt shutdown socket socketpair
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl
    semget semop semtimedop shmat shmctl shmdt shmget
"""
_MACHINE = """
    getrandom ioctl sysinfo uname
    riscv_flush_icache riscv_hwprobe s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr
"""

# (capabilities of which one is enough, names): what is root's business in the container's own namespaces.
ALLOWED: tuple[tuple[str, str], ...] = (
    ("", _FILES),
    ("", _WAITING),
    ("", _MEMORY),
    ("", _PROCESSES),
    ("", _CREDENTIALS),
    ("", _TIME),
    ("", _TALKING),
    ("", _MACHINE),
    # Mounts and namespaces: the tools of nearly every container escape there has been.
    (
        "SYS_ADMIN",
        """mount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick
        setns unshare clone3 listns""",
    ),
    ("SYS_ADMIN", "fanotify_init fanotify_mark quotactl quotactl_fd sethostname setdomainname"),
    ("SYS_ADMIN", "lookup_dcookie lsm_get_self_attr lsm_set_self_attr lsm_list_modules"),
    ("SYS_ADMIN BPF", "bpf"),
    ("SYS_ADMIN PERFMON", "perf_event_open"),
    ("SYS_ADMIN SYSLOG", "syslog"),
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module finit_module init_module"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "ioperm iopl"),
    # One process takes all that the machine has (fs.aio-max-nr), and no database of the host's starts any more.
    ("SYS_RESOURCE", "io_setup"),
    ("SYS_TIME", "clock_settime settimeofday"),
    ("SYS_TTY_CONFIG", "vhangup"),
)

# Refused whatever the capabilities, with the reason; all answer EPERM.
REFUSED: tuple[tuple[str, str], ...] = (
    (
        "its requests open files and sockets past any filter",
        "io_uring_enter io_uring_register io_uring_setup",
    ),
    ("a page fault held in user space is the usual help for a kernel exploit", "userfaultfd"),
    ("keyrings outlive the container and aren't its own", "add_key keyctl request_key"),
    ("another kernel", "kexec_file_load kexec_load"),
    ("the whole machine's swap and root", "pivot_root swapoff swapon"),
    ("other processes' pages and where the machine keeps them", "migrate_pages move_pages"),
    ("segments of 16-bit programs, rarely needed and often wrong in the kernel", "modify_ldt"),
    ("facts of the host's file systems, long replaced", "sysfs ustat uselib"),
)

# Answered as a kernel answers that never had them: a caller then does without. The first must fall back to
# clone, whose flags a filter can read (clone3 has them behind a pointer), the second to threads, as
# databases do; those after them are newer than most kernels in use, or gone from all of them.
ABSENT = """
    clone3 io_setup
    file_getattr file_setattr listns open_tree_attr rseq_slice_yield
    _sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg nfsservctl putpmsg
    query_module security tuxcall vserver
"""

# Numbers that libseccomp 2.5.4 has no name for; from 424 on they are the same on every architecture.
_SINCE_424 = """
    pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig
    fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2
    mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret
    process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake
    futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal
    setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr listns
    rseq_slice_yield
"""
NUMBERS = {name: number for number, name in enumerate(_SINCE_424.split(), 424)}
NUMBERS_X86_64 = {"uretprobe": 335, "uprobe": 336}
LAST = max(NUMBERS.values())  # Linux 7.0

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
RLIMIT_CORE = 4
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NEW_NAMESPACES = 0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

# The address families that stay: none (0), UNIX (1), INET (2), INET6 (10), and NETLINK (16). All others are code of
# their own, loaded on first use and rarely looked at; ALG (38) and VSOCK (40), which leads out of every network
# namespace, are refused always.
_FEW_FAMILIES, _NETLINK = (0, 1, 2, 10), 16
_ALWAYS_REFUSED_FAMILIES = (38, 40)
# The rings of PACKET are the kernel's memory, gigabytes of it, that no cgroup counts. Among docker's
# capabilities is the one that the kernel asks of it, so it takes that one by its name (capabilities.PACKETS).
_PACKET = (17,)

# Of netlink all are refused but ROUTE, which a libc asks for the machine's addresses, or what configures a network. By
# USERSOCK processes hand each other what no cgroup counts, and nothing uses it. AUDIT writes the host's log, and
# CAP_AUDIT_WRITE, which the kernel asks of it, is among docker's fourteen.
_ROUTE, _USERSOCK, _AUDIT = 0, 2, 9

#: What personality(2) may be set to, and 0xffffffff only asks: PER_LINUX32 (8), UNAME26 (0x20000). Others give up
#: address randomisation or map page zero.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def allowed(caps: int) -> frozenset[str]:
    """The names that a container with the capabilities ``caps`` (bits) may call, by rules or without."""
    names: set[str] = set()
    for needed, calls in ALLOWED:
        if not needed or caps & capabilities.mask_of(needed.split()):
            names.update(calls.split())
    return frozenset(names)


def answer(name: str, may: frozenset[str]) -> int | None:
    """What the call ``name`` answers where ``may`` are allowed: None (itself), EPERM or ENOSYS."""
    if name in may:
        return None
    return ENOSYS if name in ABSENT.split() else EPERM


def checks(caps: int) -> dict[str, list[Line]]:
    """Calls that are allowed but for some arguments, each compared in the bits that the kernel takes of it."""
    first, second, third, fourth = (2 * index for index in range(4))
    made = {
        # A character pushed into a terminal is read by the shell that started the container (CVE-2017-5226); the
        # console's TIOCLINUX pastes, with the same effect.
        "ioctl": among(second, (TIOCSTI, TIOCLINUX), _REFUSED, ALLOW),
        # A handler of core dumps runs on the host. The kernel starts none while the limit is 1, and none of the other
        # values says so: the limit must stay. Success all the same: at any error su, sshd and `ulimit -c 0` give up.
        "setrlimit": [(first, IS, RLIMIT_CORE, _DONE, ALLOW)],
        # Whoever also asks for the old limit would read what nobody has written: EPERM. Both are pointers, 64 bits.
        "prlimit64": [
            (second, IS, RLIMIT_CORE, NEXT, ALLOW),
            (third + HIGH, IS, 0, NEXT, AFTER_NEXT),
            (third, IS, 0, ALLOW, NEXT),
            (fourth + HIGH, IS, 0, NEXT, _REFUSED),
            (fourth, IS, 0, _DONE, _REFUSED),
        ],
        "personality": among(first, _PERSONALITIES, ALLOW, _REFUSED),
    }
    if not caps & capabilities.mask_of(("SYS_ADMIN",)):
        made["clone"] = [(first, HAS, _NEW_NAMESPACES, _REFUSED, ALLOW)]
    reads_audit = caps & capabilities.mask_of(("AUDIT_CONTROL", "AUDIT_READ"))
    if caps & capabilities.mask_of(("NET_ADMIN",)):
        protocols = (_USERSOCK,) if reads_audit else (_USERSOCK, _AUDIT)
        made["socketpair"] = among(first, _ALWAYS_REFUSED_FAMILIES, _REFUSED, ALLOW)
        made["socket"] = [
            *among(first, _ALWAYS_REFUSED_FAMILIES, _REFUSED, NEXT),
            (first, IS, _NETLINK, NEXT, ALLOW),
            *among(third, protocols, _NO_PROTOCOL, ALLOW),
        ]
        return made
    families = (*_FEW_FAMILIES, *(_PACKET if caps & capabilities.PACKETS else ()))
    protocols = (_ROUTE, _AUDIT) if reads_audit else (_ROUTE,)
    made["socketpair"] = among(first, (*families, _NETLINK), ALLOW, _REFUSED)
    made["socket"] = [
        *among(first, families, ALLOW, NEXT),
        (first, IS, _NETLINK, NEXT, _REFUSED),
        *among(third, protocols, ALLOW, _NO_PROTOCOL),
    ]
    return made
