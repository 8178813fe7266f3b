"""Calls that container filters are for, each with what it answers where nothing filters."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
EPERM, ENOSYS = 1, 38

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="needs an x86_64 machine: numbers of system calls"
)

#: name, number, arguments that do no harm.
DENIED = [
    ("keyctl", 250, (0, -3, 0)), ("add_key", 248, ("s:user", "s:x", "s:y", 1, -3)), ("request_key", 249, ("s:user", "s:x", 0, -3)),
    ("bpf", 321, (99, "b:128", 128)), ("perf_event_open", 298, ("b:128", 0, -1, -1, 0)),
    ("io_uring_setup", 425, (0, "b:120")), ("io_uring_enter", 426, (-1,)), ("io_uring_register", 427, (-1,)),
    ("userfaultfd", 323, (0xFFFF,)), ("kexec_load", 246, (0, 0, 0, 0xFFFF)), ("kexec_file_load", 320, (-1, -1, 0, 0, 0xFFFF)),
    ("init_module", 175, (0, 0, "s:")), ("finit_module", 313, (-1, "s:", 0)), ("delete_module", 176, ("s:none", 0)),
    ("mount", 165, (0, "s:/nowhere", 0, 0, 0)), ("umount2", 166, ("s:/nowhere", 0)), ("unshare", 272, (0x10000000,)),
    ("setns", 308, (-1, 0)), ("reboot", 169, (0,)), ("swapon", 167, ("s:/nowhere", 0)), ("acct", 163, ("s:/nowhere",)),
    ("settimeofday", 164, (0, "b:8")), ("clock_settime", 227, (99, "b:16")), ("iopl", 172, (9,)), ("ioperm", 173, (70000, 1, 1)),
    ("quotactl", 179, (0, 0, 0, 0)), ("lookup_dcookie", 212, (0, 0, 0)), ("move_pages", 279, (0, 0, 0, 0, 0, 0xFF)),
    ("mbind", 237, (0, 0, 9, 0, 0, 0)), ("fanotify_init", 300, (0xFFFFFF, 0)), ("vmsplice-less nfsservctl", 180, ()),
    ("open_by_handle_at", 304, (-1, "b:64", 0)), ("fsopen", 430, ("s:nothing", 0)), ("kcmp", 312, (0, 0, 99, 0, 0)),
    ("process_madvise", 440, (-1, 0, 0, 0, 0)), ("syslog", 103, (9, 0, 0)), ("chroot-less pivot_root", 155, ("s:/none", "s:/none")),
    ("vhangup", 153, ()), ("personality", 135, (0x0400000,)),
]  # fmt: skip


@pytest.mark.parametrize("name, number, arguments", DENIED, ids=[row[0] for row in DENIED])
def test_a_container_cannot_call(
    name: str, number: int, arguments: tuple[Any, ...], attack: Any, calls: Run
) -> None:
    assert calls("filtered", number, arguments) in ((-1, EPERM), (-1, ENOSYS))


def test_the_filter_is_what_denied_them(calls: Run) -> None:
    """Without it every call gets to the kernel, which answers for itself: capabilities, bad arguments, success."""
    reached = [row[0] for row in DENIED if calls("free", *row[1:])[1] not in (EPERM, ENOSYS)]
    # What needs a capability too is EPERM either way; the tables of other tests show those by themselves.
    assert {
        "keyctl",
        "add_key",
        "userfaultfd",
        "personality",
        "setns",
        "move_pages",
        "mbind",
        "io_uring_enter",
    } <= set(reached)
    assert len(reached) >= 15, reached


@pytest.fixture(scope="module")
def calls(attack: Any) -> Run:
    """All calls are made in two containers, one filtered, one not: a launch for each would be slow."""
    import pyminicon

    answers: dict[tuple[str, int], tuple[int, int]] = {}
    options: dict[str, dict[str, Any]] = {"filtered": {}, "free": {"seccomp": "unconfined"}}
    for kind, more in options.items():
        lines = [
            " ".join(["/attack", "sys", str(row[1]), *(f"'{word}'" for word in row[2])]) for row in DENIED
        ]
        r = pyminicon.run(
            ["sh", "-c", "\n".join(lines)],
            volumes=[f"{attack}:/attack:ro"],
            capture_output=True,
            text=True,
            timeout=30,
            **more,
        )
        for row, line in zip(DENIED, r.stdout.splitlines(), strict=True):
            result, error = line.split()[1:]
            answers[kind, row[1]] = int(result), int(error)
    return lambda kind, number, _arguments: answers[kind, number]


def test_a_container_cannot_pass_the_filter_with_the_high_half_of_an_argument(hostile: Run) -> None:
    """The kernel takes 32 bits of an int, a filter sees 64 (CVE-2019-10063)."""
    for name, answer in hostile("high").items():
        assert answer == (-1, EPERM), name
    free = hostile("high", seccomp="unconfined")
    assert free["socket-vsock"][0] >= 0 and free["socket-vsock-high"][0] >= 0
    assert free["clone-user-high"][0] > 0 and free["personality-high"][0] >= 0


def test_a_container_cannot_use_the_32_bit_entry(
    hostile: Run, inside: Run, attack: Any, outside: Run
) -> None:
    if outside("int80", 20)["call"][1] == ENOSYS:
        pytest.skip("needs x32 calls or others of 32 bits: this kernel has none")
    r = inside(["/attack", "int80", "20"], volumes=[f"{attack}:/attack:ro"])
    assert r.returncode == -31 and r.stdout == ""  # SIGSYS
    assert hostile("int80", 20, seccomp="unconfined")["call"][0] > 0


def test_a_container_cannot_use_x32_numbers(hostile: Run, outside: Run) -> None:
    assert hostile("x32", 39)["call"] == (-1, ENOSYS)
    assert hostile("x32", 250, 0, -3, 0)["call"] == (-1, ENOSYS)
    if outside("x32", 39)["call"][1] == ENOSYS:
        pytest.skip("needs x32 calls, which this kernel doesn't have: the answer above was its own")


def test_a_number_that_no_kernel_has_is_enosys(hostile: Run) -> None:
    """EPERM would break every libc that tries a new call first."""
    assert hostile("sys", 1999)["call"] == (-1, ENOSYS)
    assert hostile("sys", 435, "b:88", 88)["call"] == (-1, ENOSYS)  # clone3: its flags can't be seen


@pytest.mark.parametrize(
    "flag", [0x10000000, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000]
)
def test_a_container_cannot_make_namespaces(flag: int, hostile: Run) -> None:
    assert hostile("sys", 272, flag)["call"] == (-1, EPERM)
    assert hostile("sys", 56, flag | 17)["call"] == (-1, EPERM)
    assert hostile("sys", 272, 0x200)["call"] in ((0, 0), (-1, EPERM))


def test_nested_user_namespaces_need_the_filter_off(inside: Run) -> None:
    assert inside(["unshare", "-U", "true"]).returncode != 0
    assert inside(["unshare", "-U", "true"], seccomp="unconfined").returncode == 0
