"""What a keeper waits for: descriptors and times, in one thread."""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Act = Callable[[int], None]

READ, WRITE = select.POLLIN, select.POLLOUT


class Loop:
    """``watch(fd, act)``: ``act(events)`` is called whenever there is something; ``after(seconds, act)`` once."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._acts: dict[int, Act] = {}
        self._times: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0
        self.over = False

    def watch(self, fd: int, act: Act, events: int = READ) -> None:
        self._poll.register(fd, events)
        self._acts[fd] = act

    def forget(self, fd: int) -> None:
        """Before it is closed."""
        if self._acts.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._made += 1
        self._times.append((time.monotonic() + seconds, self._made, act))
        self._times.sort(key=lambda one: one[:2])

    def run(self) -> None:
        """Until ``over``."""
        while not self.over:
            for fd, events in self._poll.poll(self._patience()):
                act = self._acts.get(fd)
                if act is not None:
                    act(events)
            while self._times and self._times[0][0] <= time.monotonic():
                self._times.pop(0)[2]()

    def _patience(self) -> float | None:
        if not self._times:
            return None
        return max(self._times[0][0] - time.monotonic(), 0.0) * 1000 + 1


def read_some(fd: int, most: int) -> bytes | None:
    """What there is; b"" at the end, None where there is nothing yet."""
    try:
        return os.read(fd, most)
    except BlockingIOError:
        return None
    except OSError:  # EIO: a terminal that nobody has any more
        return b""
