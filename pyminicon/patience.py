"""A deadline for what a file system may hold for ever: making a plan, where the image, the store or files for it
lie on a mount whose server doesn't answer."""

from __future__ import annotations

import _thread
import os
import time

from pyminicon.errors import Expired, LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

_HEARS_WITHIN_MS = 500  # as csrc/parent/supervise/supervise.cc
_AN_INT = 1 << 30


def given(options: dict[str, Any]) -> float | None:
    """The sooner of ``timeout`` and ``wall_time``, not checked yet; None where there is neither."""
    times = [options.get(name) for name in ("timeout", "wall_time")]
    # What isn't above 0 is refused, or asks once, as soon as it is checked.
    numbers = [float(time) for time in times if isinstance(time, (int, float)) and time > 0]
    return min(numbers) if numbers else None


def poll_ms(seconds: float | None) -> float:
    """As poll(2) takes it, which counts in an int: whoever waits for longer asks again. In the thread that runs the
    handlers of signals at most half a second: one that comes after Python has looked for it and before the kernel
    sleeps interrupts nothing, and its handler would wait as long as the call."""
    longest = _HEARS_WITHIN_MS if _thread.get_native_id() == os.getpid() else _AN_INT
    return longest if seconds is None else min(max(seconds * 1000 + 1, 0.0), longest)


def is_readable(fd: int, seconds: float | None) -> bool:
    """Whether it is within that time; None waits for it."""
    import select

    deadline = None if seconds is None else time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if waiting.poll(0 if left == 0.0 else poll_ms(left)):
            return True
        if left == 0.0:
            return False


class _Held:
    """What a thread holds; it goes with the thread, also where that ended before its first line (no memory)."""

    __slots__ = ("act", "gone")

    def __init__(self, act: Callable[[], None], gone: Callable[[], None]) -> None:
        self.act = act
        self.gone = gone

    def __del__(self) -> None:
        gone = getattr(self, "gone", None)  # a signal's handler may have raised before it had one
        if gone is not None:
            gone()


def begin(act: Callable[[], None], gone: Callable[[], None]) -> None:
    """``act()`` in a thread of its own, and then ``gone()``, which is all that is called where the thread has no
    memory to begin with. Raises RuntimeError where there is no thread to be had."""
    _thread.start_new_thread(_perform, (_Held(act, gone),))


def _perform(held: _Held) -> None:
    # No function made for the occasion: where there is no memory for its frame CPython never lets go of it, nor of
    # what it knows (a container, its descriptors).
    held.act()


def no_memory() -> LaunchError:
    """What whoever waits for a thread is told that never began."""
    from errno import ENOMEM

    return LaunchError(ENOMEM, "prepare", "thread")


def within(seconds: float, work: Callable[[], T], dispose: Callable[[T], None]) -> T:
    """``work()``, done in a thread of its own because nobody can interrupt it. Raises Expired."""
    outcome: list[tuple[Any, BaseException | None]] = []
    wanted = [True]
    over, settling = _thread.allocate_lock(), _thread.allocate_lock()
    over.acquire()

    def act() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:
            error = caught
        with settling:
            if wanted:
                outcome.append((value, error))
                over.release()
            elif value is not None:
                dispose(value)
        # Its traceback has this frame: such a ring, and all that `work` knows, would wait for the garbage collector.
        error = None

    def gone() -> None:
        with settling:
            if wanted and not outcome:
                outcome.append((None, no_memory()))
                over.release()

    try:
        begin(act, gone)
    except RuntimeError:  # no more threads for this user
        return work()
    try:
        over.acquire(timeout=min(max(seconds, 0.0), _thread.TIMEOUT_MAX))
    finally:  # a signal's handler may have raised
        with settling:
            wanted.clear()
    if not outcome:
        raise Expired
    value, error = outcome[0]
    if error is not None:
        try:
            raise error
        finally:
            outcome.clear()
            error = None
    made: T = value
    return made
