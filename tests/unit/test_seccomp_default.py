"""The default filter, loaded in a child: what it closes, in every spelling, and what runs under it."""

from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from pyminicon import seccomp
from pyminicon.options import capabilities
from pyminicon.seccomp import default_profile as seccomp_table
from tests.support.filtered import ALLOW, ERRNO, I386, KILL_PROCESS, answer, in_child, load, raw

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are x86-64's")

HIGH = 1 << 32  # a bit that the kernel doesn't take of an int
SYS = {"ioctl": 16, "socket": 41, "socketpair": 53, "clone": 56, "personality": 135, "setrlimit": 160}
SYS |= {"prlimit64": 302, "getpid": 39}

# Each with arguments that come to nothing, and that answer otherwise without the filter (as root).
CALLS: dict[str, tuple[int | bytes | None, ...]] = {
    "acct": (163, b"/nonexistent/x"),
    "add_key": (248, b"", b"x", b"y", 1, 0),
    "request_key": (249, b"user", b"pyminicon-none", None, 0),
    "keyctl": (250, 0, 0xFFFFFFFD, 0),
    "bpf": (321, 99, None, 0),
    "delete_module": (176, b"no_such_module", 0x800),
    "fanotify_init": (300, 0x80000000, 0),
    "fanotify_mark": (301, -1, 0, 0, -1, None),
    "finit_module": (313, -1, b"", 0),
    "init_module": (175, None, 0, b""),
    "fsconfig": (431, -1, 0, None, None, 0),
    "fsmount": (432, -1, 0, 0),
    "fsopen": (430, b"nosuchfs", 0),
    "fspick": (433, -1, b"", 0x80),
    "get_mempolicy": (239, None, None, 0, 0, 0),
    "mbind": (237, 0, 0, 0, None, 0, 0),
    "set_mempolicy": (238, 0, None, 0),
    "set_mempolicy_home_node": (450, 1, 0, 0, 0),
    "io_uring_setup": (425, 0, None),
    "io_uring_enter": (426, -1, 0, 0, 0, None, 0),
    "io_uring_register": (427, -1, 0, None, 0),
    "ioperm": (173, 70000, 1, 1),
    "iopl": (172, 9),
    "kexec_load": (246, 0, 0, None, 0xFFFF0000),
    "kexec_file_load": (320, -1, -1, 0, b"", 0x80),
    "lookup_dcookie": (212, 0, None, 0),
    "migrate_pages": (256, -1, 0, None, None),
    "modify_ldt": (154, 99, None, 0),
    "move_pages": (279, -1, 0, None, None, None, 0),
    "mount": (165, None, b"/nonexistent/x", None, 0, None),
    "mount_setattr": (442, -1, b"x", 0, None, 0),
    "move_mount": (429, -1, b"", -1, b"", 0),
    "open_tree": (428, -1, b"", 0),
    "open_by_handle_at": (304, -1, None, 0),
    "perf_event_open": (298, None, 0, -1, -1, 0),
    "pidfd_getfd": (438, -1, 0, 0),
    "pivot_root": (155, b"/nonexistent/x", b"/nonexistent/y"),
    "process_madvise": (440, -1, None, 0, 0, 0),
    "quotactl": (179, 0xFFFFFF, None, 0, None),
    "quotactl_fd": (443, -1, 0, 0, None),
    "reboot": (169, 1, 2, 3, None),
    "sethostname": (170, None, -1),
    "setdomainname": (171, None, -1),
    "setns": (308, -1, 0),
    "settimeofday": (164, b"\xff" * 16, None),
    "clock_settime": (227, 99, None),
    "swapon": (167, b"/nonexistent/x", 0),
    "swapoff": (168, b"/nonexistent/x"),
    "syslog": (103, 99, None, 0),
    "sysfs": (139, 99, 0, 0),
    "ustat": (136, 0, None),
    "uselib": (134, b"/nonexistent/x"),
    "umount2": (166, b"/nonexistent/x", 0),
    "unshare": (272, 0x40),
    "userfaultfd": (323, 0x40),
    "lsm_get_self_attr": (459, 0, None, None, 0),
    "lsm_list_modules": (461, None, None, 0),
}

# docker's profile, July 2026: not allowed under its fourteen capabilities (those of 64-bit x86).
DOCKER_REFUSES = """
    acct add_key bpf clock_settime clone3 create_module delete_module fanotify_init finit_module
    fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy init_module io_uring_enter
    io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie
    lsm_get_self_attr lsm_list_modules lsm_set_self_attr mbind migrate_pages mount mount_setattr
    move_mount move_pages nfsservctl open_by_handle_at open_tree open_tree_attr perf_event_open
    pidfd_getfd pivot_root process_madvise query_module quotactl quotactl_fd reboot request_key
    set_mempolicy set_mempolicy_home_node setdomainname sethostname setns settimeofday swapoff swapon
    syslog _sysctl sysfs umount2 unshare uselib userfaultfd ustat vhangup vserver file_getattr
    file_setattr listns rseq_slice_yield afs_syscall getpmsg putpmsg security tuxcall
"""


@pytest.fixture(scope="module")
def program() -> bytes:
    made = seccomp.program("default", capabilities.DEFAULT_MASK)
    assert made is not None
    return made


def _numbers() -> dict[str, int]:
    library = seccomp.loaded_library()
    named = {library.name(number): number for number in range(seccomp_table.LAST + 1)}
    known = {name: number for name, number in named.items() if name}
    return known | seccomp_table.NUMBERS | seccomp_table.NUMBERS_X86_64


@pytest.mark.parametrize("name", CALLS)
def test_a_forbidden_call_answers_eperm(name: str, program: bytes) -> None:
    assert in_child(lambda: raw(*CALLS[name]), program) == -errno.EPERM  # type: ignore[arg-type]
    if os.geteuid() == 0:
        assert in_child(lambda: raw(*CALLS[name])) != -errno.EPERM  # type: ignore[arg-type]


def test_kcmp_and_vhangup_are_refused(program: bytes) -> None:
    assert in_child(lambda: raw(312, os.getpid(), os.getpid(), 2, 0, 0), program) == -errno.EPERM
    assert in_child(lambda: raw(312, os.getpid(), os.getpid(), 2, 0, 0)) != -errno.EPERM
    assert answer(program, 153) == ERRNO | errno.EPERM  # vhangup for real would end a terminal


def test_what_docker_refuses_is_refused(program: bytes) -> None:
    numbers = _numbers()
    for name in DOCKER_REFUSES.split():
        assert answer(program, numbers[name]) in (ERRNO | errno.EPERM, ERRNO | errno.ENOSYS), name


def test_every_number_has_one_answer_and_it_is_the_tables(program: bytes) -> None:
    may = seccomp_table.allowed(capabilities.DEFAULT_MASK)
    name_of = {number: name for name, number in _numbers().items()}
    for number in [*range(2000), 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]:
        name = name_of.get(number)
        got = answer(program, number)
        if name is None:
            assert got == ERRNO | errno.ENOSYS, number
        elif name in may:
            assert got == ALLOW, name  # with all arguments zero no rule on arguments matches
        else:
            assert got == ERRNO | (seccomp_table.answer(name, may) or -1), name


def test_every_call_that_linux_has_is_in_the_table() -> None:
    """A new name must be decided on, not fall through: EPERM is for calls that somebody thought about."""
    decided: set[str] = set(seccomp_table.ABSENT.split())
    for _, names in seccomp_table.ALLOWED + seccomp_table.REFUSED:
        decided.update(names.split())
    assert set(_numbers()) - decided == set()
    refused = {name for _, names in seccomp_table.REFUSED for name in names.split()}
    everything = (1 << 41) - 1
    assert refused & seccomp_table.allowed(everything) == set()


def test_a_number_that_nobody_knows_answers_enosys(program: bytes) -> None:
    for number in (9999, 337, 423, seccomp_table.LAST + 1):
        assert in_child(lambda number=number: raw(number), program) == -errno.ENOSYS  # type: ignore[misc]


def test_clone3_answers_enosys_so_that_threads_still_start(program: bytes) -> None:
    def threads() -> tuple[int, list[int]]:
        import threading

        seen: list[int] = []
        started = [threading.Thread(target=seen.append, args=(i,)) for i in range(8)]
        for one in started:
            one.start()
        for one in started:
            one.join()
        return raw(435, None, 0), sorted(seen)

    assert in_child(threads, program) == (-errno.ENOSYS, list(range(8)))
    assert in_child(lambda: raw(435, None, 0)) == -errno.EINVAL


@pytest.mark.parametrize("high", [0, HIGH, 0xFFFFFFFF << 32])
def test_a_forbidden_argument_is_refused_whatever_stands_above_it(high: int, program: bytes) -> None:
    def tried() -> dict[str, int]:
        # A socketpair stands in for a terminal: the filter reads only the request's number.
        one = socket.socketpair()[0]
        results = {
            f"ioctl {request:#x}": raw(SYS["ioctl"], one.fileno(), _signed(high | request), b"x")
            for request in (seccomp_table.TIOCSTI, seccomp_table.TIOCLINUX)
        }
        results |= {
            f"{call} {family}": raw(SYS[call], _signed(high | family), socket.SOCK_DGRAM, 0, bytes(8))
            for call in ("socket", "socketpair")
            for family in (38, 40, 3, 9, 11, 15, 21, 29, 30, 45)
        }
        results |= {
            f"personality {value:#x}": raw(SYS["personality"], _signed(high | value))
            for value in (0x40000, 0x100000, 0x400000, 1, 0x20009, 0xFFFFFFFE, 0xFFFDFFF7)
        }
        return results

    under, bare = in_child(tried, program), in_child(tried)
    assert set(under.values()) == {-errno.EPERM}
    assert bare.keys() == under.keys()
    assert -errno.EPERM not in bare.values()


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


@pytest.mark.parametrize("high", [0, HIGH, 0xFFFFFFFF << 32])
def test_an_allowed_argument_works_whatever_stands_above_it(high: int, program: bytes) -> None:
    def tried() -> list[int]:
        results = [raw(SYS["socket"], _signed(high | family), socket.SOCK_DGRAM, 0) for family in (1, 2, 10)]
        results.append(raw(SYS["socket"], _signed(high | 16), socket.SOCK_RAW, 0))
        results += [raw(SYS["personality"], _signed(high | value)) for value in (0xFFFFFFFF, 0, 8, 0)]
        results.append(raw(SYS["socketpair"], _signed(high | 1), socket.SOCK_STREAM, 0, bytes(8)))
        return results

    assert all(result >= 0 for result in in_child(tried, program))


def test_the_personalities_are_dockers_five(program: bytes) -> None:
    kept = {0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF}
    near = {value ^ 1 << bit for value in kept for bit in range(32)}
    near |= {(value + step) & 0xFFFFFFFF for value in kept for step in (-1, 1)} | set(range(0x300))
    for value in near | kept:
        expected = ALLOW if value in kept else ERRNO | errno.EPERM
        assert answer(program, SYS["personality"], [value]) == expected, hex(value)


def _families(program: bytes, call: str) -> set[int]:
    return {family for family in range(64) if answer(program, SYS[call], [family]) == ALLOW}


def test_only_four_families_stay_and_packets_on_request(program: bytes) -> None:
    asked = capabilities.for_filter(capabilities.DEFAULT_MASK, ["net_raw"])
    assert asked & ~capabilities.PACKETS == capabilities.DEFAULT_MASK
    with_packets = seccomp.program("default", asked)
    everything = seccomp.program("default", capabilities.for_filter((1 << 41) - 1, ["ALL"]))
    assert with_packets is not None and everything is not None
    for call in ("socket", "socketpair"):
        assert _families(program, call) == {0, 1, 2, 10, 16}  # the kernel has no family 0
        assert _families(with_packets, call) == {0, 1, 2, 10, 16, 17}
        assert _families(everything, call) == set(range(64)) - {38, 40}


@pytest.mark.parametrize("high", [0, HIGH, 0xFFFFFFFF << 32])
def test_of_netlink_only_routes_stay(high: int, program: bytes) -> None:
    def tried() -> dict[int, int]:
        kinds = (socket.SOCK_RAW, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        return {
            protocol: min(
                raw(SYS["socket"], _signed(high | 16), _signed(high | kind), _signed(high | protocol))
                for kind in kinds
            )
            for protocol in range(34)
        }

    under, bare = in_child(tried, program), in_child(tried)
    assert under.pop(0) > 0
    assert set(under.values()) == {-errno.EPROTONOSUPPORT}
    assert bare[2] > 0 and bare[9] > 0 and bare[15] > 0


def test_who_configures_the_network_has_the_rest_of_netlink() -> None:
    def kept(*more: str) -> set[int]:
        made = seccomp.program("default", capabilities.resolve(more))
        assert made is not None
        return {p for p in range(32) if answer(made, SYS["socket"], [16, 3, p]) == ALLOW}

    assert kept() == {0}
    assert kept("NET_ADMIN") == set(range(32)) - {2, 9}
    assert kept("AUDIT_CONTROL") == kept("AUDIT_READ") == {0, 9}
    assert kept("ALL") == set(range(32)) - {2}


def test_asynchronous_reads_are_absent_unless_limits_may_be_passed(program: bytes) -> None:
    assert answer(program, 206) == ERRNO | errno.ENOSYS
    more = seccomp.program("default", capabilities.resolve(["SYS_RESOURCE"]))
    assert more is not None and answer(more, 206) == ALLOW


def test_clone_makes_processes_but_no_namespaces(program: bytes) -> None:
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        for high in (0, HIGH):
            assert answer(program, SYS["clone"], [high | flag | signal.SIGCHLD]) == ERRNO | errno.EPERM
    assert (
        in_child(lambda: raw(SYS["clone"], 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0), program) == -errno.EPERM
    )
    assert answer(program, SYS["clone"], [0x003D0F00]) == ALLOW  # a thread of glibc's
    assert in_child(lambda: os.waitpid(os.spawnlp(os.P_NOWAIT, "true", "true"), 0)[1], program) == 0


def test_the_limit_on_core_dumps_stays_and_others_can_be_set(program: bytes) -> None:
    def tried() -> tuple[list[int], bool, tuple[int, int]]:
        core, size = ctypes.create_string_buffer(16), ctypes.create_string_buffer(16)
        address, other = ctypes.addressof(core), ctypes.addressof(size)
        # A pointer whose low half is zero: the comparison must take all 64 bits of it.
        page = 0x700000000000
        libc = ctypes.CDLL(None)
        libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p] + [ctypes.c_long] * 5
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000
        assert libc.mmap(page, 4096, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == page
        before = resource.getrlimit(resource.RLIMIT_CORE)
        answers = [
            raw(SYS["prlimit64"], 0, 4, None, address),
            raw(SYS["prlimit64"], 0, 1, None, other),
            raw(SYS["prlimit64"], 0, 1, other, None),
            raw(SYS["setrlimit"], 1, other),
            raw(SYS["setrlimit"], 4, address),
            raw(SYS["setrlimit"], HIGH | 4, address),
            raw(SYS["prlimit64"], 0, 4, address, None),
            raw(SYS["prlimit64"], 0, HIGH | 4, address, None),
            raw(SYS["prlimit64"], 0, 4, page, None),
            raw(SYS["prlimit64"], 0, 4, page, other),
        ]
        after = resource.getrlimit(resource.RLIMIT_CORE)
        return answers, after == before, after

    # Success without a deed, but where the old limit is asked for: what is read then must be what was written.
    answers, kept, _ = in_child(tried, program)
    assert (answers, kept) == ([0] * 9 + [-errno.EPERM], True)
    answers, _, limit = in_child(tried)
    assert (answers, limit) == ([0] * 10, (0, 0))


def test_every_pair_of_pointers_to_limits_gets_its_own_answer(program: bytes) -> None:
    pointers = [0, 1, 8, 1 << 32, 0xFFFFFFFF, 1 << 46, 0x7FFF00000000, 0x7FF012345678, (1 << 64) - 1]
    done, refused = ERRNO, ERRNO | errno.EPERM
    for new, old, high in itertools.product(pointers, pointers, (0, HIGH)):
        wanted = ALLOW if new == 0 else done if old == 0 else refused
        assert answer(program, SYS["prlimit64"], [0, high | 4, new, old]) == wanted, (new, old)
        assert answer(program, SYS["prlimit64"], [0, high | 7, new, old]) == ALLOW


def _machine_code(code: bytes) -> int:
    """Run ``code``, which returns an int."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


def test_the_32_bit_entry_kills(program: bytes) -> None:
    # mov $20, %eax; int $0x80; ret: getpid of i386
    getpid32 = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"
    assert in_child(lambda: _machine_code(getpid32), program) == -signal.SIGSYS
    bare = in_child(lambda: (_machine_code(getpid32), os.getpid()))
    if bare != -signal.SIGSEGV:  # a kernel without IA32 emulation
        assert bare[0] == bare[1]
    for number in (0, 20, 102, 359):
        assert answer(program, number, arch=I386) == KILL_PROCESS


def test_calls_of_x32_answer_enosys(program: bytes) -> None:
    for number in (39, 0, 41, 512, 520, 547):
        assert answer(program, 0x40000000 | number) == ERRNO | errno.ENOSYS
    assert in_child(lambda: raw(0x40000000 | 39), program) == -errno.ENOSYS


def test_the_filter_itself_is_the_kernels_business(program: bytes) -> None:
    assert len(program) % 8 == 0
    assert len(program) // 8 < 160  # each takes a part of every launch
    assert in_child(os.getpid, program) > 0


def test_capabilities_open_what_they_are_for() -> None:
    numbers = _numbers()
    for name, calls in (
        (
            "SYS_ADMIN",
            "mount umount2 unshare setns clone3 bpf fsopen perf_event_open sethostname open_tree_attr",
        ),
        ("BPF", "bpf"),
        ("PERFMON", "perf_event_open"),
        ("SYSLOG", "syslog"),
        ("DAC_READ_SEARCH", "open_by_handle_at"),
        ("SYS_BOOT", "reboot"),
        ("SYS_MODULE", "init_module finit_module delete_module"),
        ("SYS_NICE", "mbind set_mempolicy get_mempolicy"),
        ("SYS_PACCT", "acct"),
        ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
        ("SYS_RAWIO", "iopl ioperm"),
        ("SYS_TIME", "settimeofday clock_settime"),
        ("SYS_TTY_CONFIG", "vhangup"),
    ):
        program = seccomp.program("default", capabilities.resolve([name]))
        assert program is not None
        for call in calls.split():
            assert answer(program, numbers[call]) == ALLOW, (name, call)
    program = seccomp.program("default", capabilities.resolve(["ALL"]))
    assert program is not None
    assert answer(program, SYS["clone"], [0x10000000]) == ALLOW
    assert answer(program, SYS["socket"], [29]) == ALLOW
    for family in (38, 40):
        assert answer(program, SYS["socket"], [family]) == ERRNO | errno.EPERM
    for call in ("io_uring_setup", "keyctl", "add_key", "kexec_load", "userfaultfd", "pivot_root", "swapon"):
        assert answer(program, numbers[call]) == ERRNO | errno.EPERM
    without = seccomp.program("default", capabilities.resolve([], ["ALL"]))
    assert without is not None
    assert answer(without, numbers["chroot"]) == ERRNO | errno.EPERM


PROGRAMS = {
    "python3": (
        [sys.executable, "-c", "import threading, ssl, sqlite3, multiprocessing.pool; print('ran')"],
        "ran",
    ),
    "bash": (["bash", "-c", "for i in 1 2 3; do (echo $i | cat); done; wait; echo ran"], "ran"),
    "apt-get": (["apt-get", "--version"], "apt"),
    "gcc": (["sh", "-c", "echo 'int main(){return 0;}' | gcc -x c - -o /dev/null && echo ran"], "ran"),
    "git": (["git", "--version"], "git version"),
    "perl": (["perl", "-e", "print fork ? 'ran' : ''"], "ran"),
    "node": (["node", "-e", "console.log('ran')"], "ran"),
    # It ends at any error but two when it can't switch core dumps off.
    "gpg": (["gpg", "--version"], "gpg"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_real_programs_run_under_it(name: str, program: bytes) -> None:
    command, expected = PROGRAMS[name]
    if not shutil.which(command[0]) or not shutil.which(name):
        pytest.skip(f"no {name} here")

    def run() -> tuple[int, str]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, output = in_child(run, program)
    assert code == 0, output
    assert expected in output


def test_a_filter_under_the_filter_can_be_loaded(program: bytes) -> None:
    def twice() -> int:
        load(program)
        return raw(SYS["getpid"])

    assert in_child(twice, program) > 0
