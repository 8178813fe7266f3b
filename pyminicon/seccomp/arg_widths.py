"""How many bits of each argument of a system call the kernel takes.

A filter sees six 64-bit words. The kernel takes the low 32 of them where the call's parameter is an int (16
where it is a mode), so a rule that compares the whole word is passed by an argument with a bit set above:
``socket(1 << 32 | 40, …)`` opens the family 40. A rule has to compare what the kernel takes, no more and,
for a length or an address, no less.

From the prototypes in the kernel's include/linux/syscalls.h, Linux 6.18, but for those that take a long and
go on with an int: the flags of clone, the descriptor of readv, writev and mmap and the number of their
vectors, the mode of mbind, the pid of ptrace.
"""

from __future__ import annotations

# One letter an argument: i takes 32 bits, h 16, l all 64; arguments at the end that take 64 are left out.
_SIGNATURES = {
    "": """
        acct adjtimex brk capget capset chdir chroot clone3 execve fork get_mempolicy get_thread_area getcpu
        getcwd getegid geteuid getgid getpgrp getpid getppid getresgid getresuid gettid gettimeofday getuid
        getxattr init_module inotify_init io_cancel io_destroy io_getevents io_pgetevents io_submit
        kexec_load lgetxattr link listxattr llistxattr lookup_dcookie lremovexattr lstat mincore mlock mount
        mprotect mq_unlink mremap mseal munlock munlockall munmap nanosleep pause pipe pivot_root pkey_alloc
        remap_file_pages removexattr rename restart_syscall rmdir rseq_slice_yield rt_sigpending
        rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_yield set_mempolicy_home_node set_robust_list
        set_thread_area set_tid_address setsid settimeofday shmdt sigaltstack stat statfs swapoff symlink
        sync sysinfo time times truncate uname unlink unshare uprobe uretprobe uselib utime utimes vfork
        vhangup
        """,
    "i": """
        accept alarm arch_prctl clock_adjtime clock_getres clock_gettime clock_settime clone close dup
        epoll_create epoll_create1 eventfd exit exit_group fchdir fdatasync fgetxattr flistxattr
        fremovexattr fstat fstatfs fsync ftruncate futimesat get_robust_list getgroups getitimer getpeername
        getpgid getrlimit getrusage getsid getsockname inotify_init1 io_setup io_uring_setup iopl keyctl
        memfd_secret migrate_pages mlockall modify_ldt mq_getsetattr mq_notify mq_timedreceive openat2
        personality pkey_free prctl pread64 process_vm_readv process_vm_writev pselect6 pwrite64 read
        readahead rt_sigaction rt_sigprocmask sched_get_priority_max sched_get_priority_min sched_getparam
        sched_getscheduler sched_rr_get_interval sched_setparam select set_mempolicy setfsgid setfsuid
        setgid setgroups setitimer setrlimit setuid signalfd syncfs sysfs timer_create timer_delete
        timer_getoverrun timer_gettime timerfd_gettime umask userfaultfd ustat write
        """,
    "ii": """
        clock_nanosleep dup2 eventfd2 fallocate fanotify_init fcntl flock getpriority inotify_rm_watch ioctl
        ioprio_get kexec_file_load kill landlock_restrict_self listen msgctl msgget pidfd_open prlimit64
        process_mrelease rt_sigqueueinfo sched_getaffinity sched_setaffinity sched_setscheduler seccomp
        sendfile setns setpgid setregid setreuid shmctl shutdown timer_settime timerfd_create
        timerfd_settime tkill
        """,
    "li": """
        access delete_module fsopen memfd_create pipe2 ppoll ptrace setdomainname sethostname swapon
        symlinkat umount2
        """,
    "iii": """
        close_range dup3 epoll_ctl fchown fsmount getsockopt ioprio_set kcmp membarrier pidfd_getfd
        quotactl_fd reboot rt_tgsigqueueinfo semctl semget setpriority setresgid setresuid socket socketpair
        tgkill
        """,
    "ili": """
        bind bpf connect epoll_pwait2 faccessat finit_module fspick getdents getdents64 getxattrat
        inotify_add_watch listxattrat lseek mount_setattr open_by_handle_at open_tree open_tree_attr preadv
        pwritev quotactl readv recvmsg removexattrat renameat sched_setattr semop semtimedop sendmsg
        setxattrat shmat shmget syslog unlinkat wait4 writev
        """,
    "lii": """
        chown lchown poll
        """,
    "lli": """
        getrandom ioperm landlock_create_ruleset lsm_list_modules madvise map_shadow_stack mlock2 msync
        readlink
        """,
    "iiii": """
        io_uring_enter
        """,
    "iili": """
        fanotify_mark io_uring_register landlock_add_rule pidfd_send_signal tee waitid
        """,
    "ilii": """
        epoll_pwait epoll_wait faccessat2 lsm_set_self_attr recvmmsg sched_getattr sendmmsg statx
        """,
    "illi": """
        accept4 cachestat fadvise64 lsm_get_self_attr mq_timedsend msgsnd newfstatat readlinkat recvfrom
        signalfd4 sync_file_range utimensat vmsplice
        """,
    "liii": """
        futex_requeue perf_event_open rseq
        """,
    "llii": """
        futex_wake
        """,
    "llli": """
        listmount listns pkey_mprotect request_key statmount
        """,
    "iiili": """
        setsockopt
        """,
    "iilli": """
        fsconfig
        """,
    "iliii": """
        fchownat
        """,
    "ilili": """
        linkat move_mount renameat2
        """,
    "illii": """
        process_madvise
        """,
    "illli": """
        execveat file_getattr file_setattr fsetxattr msgrcv name_to_handle_at
        """,
    "liili": """
        futex_waitv
        """,
    "lllli": """
        add_key lsetxattr mmap setxattr
        """,
    "ililli": """
        copy_file_range preadv2 pwritev2 splice
        """,
    "illili": """
        sendto
        """,
    "illlli": """
        move_pages
        """,
    "liilli": """
        futex
        """,
    "llilli": """
        mbind
        """,
    "lllili": """
        futex_wait
        """,
    "ih": """
        fchmod
        """,
    "lh": """
        chmod creat mkdir
        """,
    "ilh": """
        fchmodat mkdirat
        """,
    "lhi": """
        mknod
        """,
    "lih": """
        mq_open open
        """,
    "ilhi": """
        fchmodat2 mknodat
        """,
    "ilih": """
        openat
        """,
}

_BITS = {"h": 16, "i": 32, "l": 64}

_signature_of: dict[str, str] = {}


def width(name: str, index: int) -> int | None:
    """The bits (16, 32 or 64) that the kernel takes of argument ``index`` of the call ``name``.

    None for a call that this table doesn't have: one newer than it, or of another architecture.
    """
    if not _signature_of:
        _signature_of.update((call, sig) for sig, calls in _SIGNATURES.items() for call in calls.split())
    signature = _signature_of.get(name)
    if signature is None:
        return None
    return _BITS[signature[index]] if index < len(signature) else 64
