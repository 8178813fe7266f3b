"""Work that may hang or last, in a thread of its own, awaited on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno

from pyminicon import errors
from pyminicon import patience as patient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")

# A killed process that waits for a FUSE server's answer stays until that server has gone (the kernel's
# request_wait_answer isn't killable once the server has read the request). Nobody can wait for that.
PATIENCE = 5.0


async def in_thread(
    loop: asyncio.AbstractEventLoop,
    work: Callable[[], T],
    dispose: Callable[[T], None] | None,
    give_up: Callable[[], None] | None = None,
    undo: Callable[[T], Coroutine[Any, Any, Any]] | None = None,
    patience: float = PATIENCE,
) -> T:
    """``work()`` in a thread of its own: the loop's executor has few, and this one may wait for long.

    Cancelled, it calls ``give_up`` and waits until the work has ended, ``patience`` seconds at most; what it
    made nevertheless is undone, or disposed of. Without a ``give_up`` it goes at once and the result is disposed of when it comes.
    """
    outcome: asyncio.Future[T] = loop.create_future()
    abandoned = told = False

    def deliver(value: T | None, error: BaseException | None) -> None:
        if abandoned or outcome.done():
            if value is not None and dispose is not None:
                dispose(value)
        elif error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(value)  # type: ignore[arg-type]

    def act() -> None:
        nonlocal told
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(deliver, value, error)
            told = True
        except RuntimeError:  # the loop was closed meanwhile
            if value is not None and dispose is not None:
                dispose(value)
        error = None  # its traceback has this frame: a ring that would wait for the garbage collector

    def gone() -> None:
        if not told:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(deliver, None, patient.no_memory())

    try:
        patient.begin(act, gone)
    except RuntimeError:  # no more threads for this user
        abandoned = True  # nobody asks what `gone` delivers
        raise errors.LaunchError(errno.EAGAIN, "prepare", "thread") from None
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        if give_up is None:
            abandoned = True
            # It may have come in the same turn of the loop, and nobody has had it yet.
            if outcome.done() and outcome.exception() is None and dispose is not None:
                dispose(outcome.result())
            outcome.cancel()
            raise
        give_up()
        await despite_cancelling(asyncio.wait([outcome], timeout=patience))
        abandoned = True
        if outcome.done() and outcome.exception() is None:
            if undo is not None:
                await despite_cancelling(undo(outcome.result()))
            elif dispose is not None:
                dispose(outcome.result())
        raise


async def despite_cancelling(work: Any) -> asyncio.CancelledError | None:
    """Awaits ``work`` to its end, however often this task is cancelled; the last such cancellation."""
    task = asyncio.ensure_future(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
