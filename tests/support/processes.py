"""What is alive on this machine, from /proc: ps isn't everywhere."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import soon


def _all() -> Iterator[str]:
    return filter(str.isdigit, os.listdir("/proc"))


def marked(mark: str) -> list[int]:
    """Processes with ``mark`` in their command line, but this one; zombies have none."""
    found = []
    for pid in _all():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line and int(pid) != os.getpid():
            found.append(int(pid))
    return found


def marked_soon(mark: str, within: float = 5.0) -> list[int]:
    """The same for a process just started: exec closes what tells of it before the new command line is there."""
    deadline = time.monotonic() + within
    while not (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def unmarked_soon(mark: str, within: float = 10.0) -> bool:
    """Whether no process has ``mark`` any more: what ends with its caller is killed by others."""
    return soon(lambda: not marked(mark), within)


def in_namespace(namespace: str) -> list[int]:
    """Processes of the PID namespace that the link /proc/PID/ns/pid names."""
    found = []
    for pid in _all():
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                found.append(int(pid))
        except OSError:
            continue
    return found


def is_dying(pid: int) -> bool:
    """Whether the kernel has its SIGKILL and is at its end, which a busy machine may take its time for."""
    try:
        flags = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6])
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return True
    exiting, killed = 0x4, 1 << (signal.SIGKILL - 1)  # PF_EXITING
    return bool(flags & exiting or (int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)) & killed)
