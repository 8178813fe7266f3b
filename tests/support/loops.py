"""A loop's thread in which nothing of ours may wait for a file system, a lock or a nap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_blocks() -> Iterator[None]:
    """Whatever of pyminicon's makes such a call while a loop runs in its thread gets a BlockingError for it."""
    from blockbuster import blockbuster_ctx

    with blockbuster_ctx("pyminicon") as watched:
        # A cgroup's files are the kernel's own, and update() is no coroutine.
        watched.functions["os.stat"].can_block_in("pyminicon/cgroups/files.py", "_memory_v1")
        # /proc/PID/status is the kernel's memory: no server is asked for it.
        watched.functions["io.BufferedReader.read"].can_block_in("pyminicon/container.py", "hears")
        watched.functions["os.path.abspath"].can_block_in("tests/support/leftovers.py", "scratch")
        yield
