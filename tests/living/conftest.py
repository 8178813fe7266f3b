"""One container to live in, and words for what is inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyminicon


@pytest.fixture
def home() -> Iterator[pyminicon.Container[bytes]]:
    with pyminicon.start() as c:
        yield c


def names(c: Any) -> list[str]:
    """The names of the processes inside, without init, its workers, and who looks."""
    script = 'for d in /proc/[0-9]*; do read -r name < $d/comm && echo "$name ${d#/proc/}"; done 2>/dev/null; echo me $$'
    lines = c.run(["sh", "-c", script], capture_output=True, text=True, timeout=30).stdout.split("\n")
    rows = [line.rsplit(" ", 1) for line in lines if line]
    me = next(pid for name, pid in rows if name == "me")
    return sorted(
        name for name, pid in rows if pid != me and name not in ("me", "pyminicon-init", "pyminicon-work")
    )


def soon(what: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
