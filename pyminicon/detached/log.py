"""The log of a detached container: what its program writes, in the format that Kubernetes has for it (CRI).

    2026-01-02T03:04:05.678901234Z stdout F a line
    2026-01-02T03:04:05.678901234Z stdout P a piece of one, which goes on in the next record

``log`` is written to; when it has half of what is allowed it becomes ``log.1``, and the older half is gone.
"""

from __future__ import annotations

import os
import time

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Record = tuple[float, int, bytes]  # when, 1 or 2, what

NAMES = ("", "stdout", "stderr")
_LEAST = 8192


def check_size(option: str, size: int) -> int:
    """Raises SpecError where next to nothing would be kept."""
    if size < _LEAST:
        raise SpecError(option, f"takes {_LEAST} bytes or more, not {size}")
    return size


# ---- reading


def parse(line: bytes) -> Record | None:
    """One record, without the end of its line where it is a piece of one; None for what is none."""
    try:
        stamp, name, tag, text = line.split(b" ", 3)
        whole = tag == b"F"
        second, _, fraction = stamp.rstrip(b"Z").partition(b".")
        when = seconds(second.decode()) + float(b"0." + fraction)
        return when, 2 if name == b"stderr" else 1, text if whole else text[:-1]
    except ValueError:
        return None


_times: tuple[str, float] = "", 0.0


def seconds(text: str) -> float:
    """``2026-01-02T03:04:05`` in seconds since the epoch. Raises ValueError."""
    global _times
    if _times[0] != text:
        import calendar

        _times = text, float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))
    return _times[1]


class Reader:
    """The records of a log from the oldest on, through its rotations."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fds: list[int] = []
        self._rest = b""
        for name in ("log.1", "log"):
            self._add(name)
        # It was renamed between the two: then the first is there twice, or the second is newer than it.
        if len(self._fds) == 2 and _same(*self._fds):
            os.close(self._fds.pop())
            self._add("log")

    def _add(self, name: str) -> bool:
        try:
            self._fds.append(os.open(f"{self._directory}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        except FileNotFoundError:
            return False
        return True

    def records(self) -> Iterator[Record]:
        """Those that are there by now; called again, those that have come since."""
        while self._fds:
            data = os.read(self._fds[0], 1 << 20)
            if data:
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    record = parse(line + b"\n")
                    if record is not None:
                        yield record
            elif not self._next():
                return

    def _next(self) -> bool:
        """At the end of the oldest file: goes on with the newer one, if there is one."""
        if len(self._fds) == 1:
            if not self._add("log"):
                return False
            if _same(*self._fds[-2:]):
                os.close(self._fds.pop())
                return False
            if os.fstat(self._fds[0]).st_size > os.lseek(self._fds[0], 0, os.SEEK_CUR):
                return True  # it has got its last lines before it was renamed
        os.close(self._fds.pop(0))
        self._rest = b""
        return True

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _same(one: int, other: int) -> bool:
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
