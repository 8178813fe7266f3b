"""Bytes through a process: in at its stdin, out from its stdout, with its complaints kept.

One thread and poll(2) for all three pipes, so that none of them can fill up and stop the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .confine import Confined

# F_SETPIPE_SZ (Linux 2.6.35; Python has the name from 3.10 on, but not on every C library). With
# the usual 64 KiB the two sides take turns instead of working at the same time.
_SET_PIPE_SIZE = 1031
_PIPE_SIZE = 1 << 20
_MOST_COMPLAINTS = 1 << 20


def through(
    process: Confined,
    source: Iterator[bytes],
    said: bytearray,
    check: Callable[[], None] | None = None,
) -> Iterator[bytes]:
    """Feed ``source`` to ``process``; yields what it writes, in pieces as they come.

    ``said`` receives its standard error, at most 1 MiB of it. A process that stops reading is
    not an error here: the rest of ``source`` is still taken, because others count on seeing it.
    ``check`` is called at least twice a second; what it raises ends the work.
    """
    pump = _Pump(process, source)
    while pump.open:
        pump.refill()
        for fd, _ in pump.poll.poll(500):
            if fd == process.stdin:
                pump.feed()
            elif (data := pump.take(fd)) and fd == process.stdout:
                yield data
            elif data and len(said) < _MOST_COMPLAINTS:
                said += data
        if check is not None:
            check()


class _Pump:
    """The three pipes; ``open`` holds the descriptors of those that are."""

    def __init__(self, process: Confined, source: Iterator[bytes]) -> None:
        self._process = process
        self._source = source
        self._waiting = memoryview(b"")
        self.poll = select.poll()
        self.open = {process.stdin, process.stdout, process.stderr}
        for fd in self.open:
            os.set_blocking(fd, False)
            self.poll.register(fd, select.POLLOUT if fd == process.stdin else select.POLLIN)
            # EPERM beyond /proc/sys/fs/pipe-user-pages-soft: slower, not wrong.
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, _SET_PIPE_SIZE, _PIPE_SIZE)

    def refill(self) -> None:
        """Have something to write, or close the pipe when the source has ended."""
        if self._process.stdin not in self.open or self._waiting:
            return
        self._waiting = memoryview(next((piece for piece in self._source if piece), b""))
        if not self._waiting:
            self._end_input()

    def feed(self) -> None:
        try:
            self._waiting = self._waiting[os.write(self._process.stdin, self._waiting) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._end_input()
            for _ in self._source:
                pass

    def take(self, fd: int) -> bytes:
        try:
            data = os.read(fd, 1 << 18)
        except BlockingIOError:
            return b""
        if not data:
            self._drop(fd)
        return data

    def _end_input(self) -> None:
        self._drop(self._process.stdin)
        self._process.close_stdin()

    def _drop(self, fd: int) -> None:
        self.open.discard(fd)
        self.poll.unregister(fd)
