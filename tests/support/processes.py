"""What is alive on this machine, from /proc: ps isn't everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


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
