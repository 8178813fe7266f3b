"""Waiting for what others do: a kernel, a guard, another process."""

from __future__ import annotations

import time
from collections.abc import Callable


def soon(holds: Callable[[], object], within: float = 10.0) -> bool:
    """Whether ``holds()`` becomes true in so many seconds; asked every few milliseconds."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
