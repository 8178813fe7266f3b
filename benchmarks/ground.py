"""What a benchmark stands on, made before and taken away after: cgroups, a network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914


def cgroup_mounts() -> dict[str, str]:
    """Mount points by controller ("memory", "pids", ...) on v1, and "" for the v2 tree."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            found[""] = left.split()[4]
        elif kind == "cgroup":
            for controller in options.split(","):
                found[controller] = left.split()[4]
    return found


def _own_cgroups() -> list[tuple[str, str]]:
    """(controller, path within its tree) of this process, from /proc/self/cgroup."""
    rows = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return [(names.split(",")[0], path) for _, names, path in rows]


def remove_cgroup(directory: Path) -> None:
    """rmdir a cgroup and what was made below it (all empty by then: EBUSY says so if not)."""
    for folder, _, _ in os.walk(directory, topdown=False):
        os.rmdir(folder)


@contextlib.contextmanager
def own_memory_cgroup() -> Iterator[int]:
    """Move this process into a v1 memory cgroup of its own; yields an open directory of it.

    Containers are made below their caller's cgroup, floor and product alike; so both find the same
    depth, and nobody else's cgroup is touched. Yields -1 where that isn't possible.
    """
    root = cgroup_mounts().get("memory")
    before = next((path for name, path in _own_cgroups() if name == "memory"), "/")
    if root is None or os.getuid() != 0:
        yield -1
        return
    mine = Path(root) / f"pyminicon-bench-{os.getpid()}"
    mine.mkdir()
    try:
        (mine / "cgroup.procs").write_text("0")
        directory = os.open(mine, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield directory
        finally:
            os.close(directory)
    finally:
        # This process, and helpers of its own that were started meanwhile and live as long as it.
        for pid in (mine / "cgroup.procs").read_text().split():
            Path(root + before, "cgroup.procs").write_text(pid)
        remove_cgroup(mine)


@contextlib.contextmanager
def unified_cgroup() -> Iterator[int]:
    """A fresh directory in the v2 tree (for CLONE_INTO_CGROUP); -1 where there is none."""
    root = cgroup_mounts().get("")
    if root is None or os.getuid() != 0:
        yield -1
        return
    mine = Path(root) / f"pyminicon-bench-{os.getpid()}"
    mine.mkdir()
    directory = os.open(mine, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)
        mine.rmdir()


@contextlib.contextmanager
def network_namespace() -> Iterator[int]:
    """An open network namespace with its loopback up, made ahead of need; -1 without the right to."""
    answer: list[int] = []

    def make() -> None:  # in a thread: only the thread changes its namespace, and it ends
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEWNET):
            answer.append(-1)
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", 1))
        answer.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    try:
        yield answer[0]
    finally:
        if answer[0] >= 0:
            os.close(answer[0])
