"""Planning and launching on a loop: in its thread, or in another where that may hang or last."""

from __future__ import annotations

import asyncio
import errno
import os

from pyminicon import _core, errors, patience, preload
from pyminicon.aio.ending import Ending
from pyminicon.aio.thread import in_thread
from pyminicon.options import parse as specs
from pyminicon.plan import cache
from pyminicon.request import request_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyminicon.aio.loop import Watch
    from pyminicon.network.serving import Serving
    from pyminicon.options import Spec
    from pyminicon.plan import ExecSpec, Plan

    T = TypeVar("T")

_A_MOMENT = 0.2  # seconds
#: Images that need nothing of the store's code.
_ASSEMBLED = ("host", "python")

preload.rooms("plan", "cgroups", "options", "seccomp")


async def planned(
    loop: asyncio.AbstractEventLoop, args: Any, options: dict[str, Any], refused: frozenset[str]
) -> tuple[Spec, Plan]:
    """What was asked for, checked, and its plan. A new one is made in another thread: whatever it asks of a file
    system holds up the loop for as long. Raises Expired at the sooner of timeout and wall_time."""
    if not specs.LIMITS & options.keys():  # cgroups are looked at for them
        known = cache.at_once(args, options, refused)
        if known is not None:
            return known
    if "storage" in options or options.get("image", "host") not in _ASSEMBLED:
        preload.rooms("images")
    seconds = patience.given(options)
    # Whoever is cancelled leaves nothing behind, as a rule: a plan is made in a moment, or it hangs.
    work = in_thread(
        loop,
        lambda: cache.afresh(args, options, refused),
        cache.forget,
        give_up=lambda: None,
        patience=_A_MOMENT,
    )
    if seconds is None:
        return await work
    deadline = loop.time() + seconds
    try:
        async with asyncio.timeout(seconds):  # wait_for may forget a cancelling, before Python 3.12
            return await work
    except TimeoutError:
        if loop.time() < deadline:  # a file system's own
            raise
        raise errors.Expired from None


def sooner(begun: float, spec: Spec) -> float | None:
    """The moment at which the set-up is given up: at the timeout or the wall_time, as in the core's run."""
    given = [seconds for seconds in (spec.timeout, spec.wall_time) if seconds is not None]
    return begun + min(given) if given else None


class Limits:
    """The limits that the core holds by itself, because nobody may be waiting for the container.

    A ``run`` gives no ``spec`` here: it holds its limits on the loop, and waits for the container's end but not for
    the undoing of its mounts.
    """

    __slots__ = ("max_output", "trace", "undo_later", "wall_time")

    def __init__(self, spec: Spec | None, trace: bool) -> None:
        self.trace: bool = trace
        self.undo_later: bool = spec is None
        self.wall_time: float | None = spec.wall_time if spec is not None else None
        self.max_output: int | None = spec.max_output if spec is not None else None

    def request(self, spec: Spec, exec_spec: ExecSpec, serving: Serving | None = None) -> _core.Request:
        """The request for the core. It has no descriptor of a Cancel: the loop waits for that one itself."""
        request = request_of(spec, exec_spec, self.trace, serving)
        request.wall_time, request.max_output = self.wall_time, self.max_output
        request.cancel_fd = -1
        return request


async def launch(
    watch: Watch,
    spec: Spec,
    plan: Plan,
    limits: Limits,
    deadline: float | None,
    core: _core.Plan | None = None,
    exec_spec: ExecSpec | None = None,
    serving: Serving | None = None,
) -> _core.Handle:
    """Starts a container and returns its handle. Raises TimeoutError if the set-up isn't done at ``deadline``, by the
    loop's clock. ``core`` and ``exec_spec`` replace the plan's own in one of many containers of a kind. ``serving``:
    what is served of its network."""
    loop = watch.loop
    core = core or plan.core or _core.Plan(plan.fields)
    request = limits.request(spec, exec_spec or plan.exec_spec, serving)
    if watch.going == 1 and not core.may_hang:
        request.undo_later = limits.undo_later
        return _core.start(core, request)
    lasts = "disk_parent" in plan.fields
    undo = lambda made: Ending(watch, made, lasts).undo()  # noqa: E731
    try:
        if core.may_hang:
            return await launch_in_thread(loop, lambda: _core.start(core, request), request, deadline, undo)
        request.patience = None if deadline is None else deadline - loop.time()
        return await watch.launch(core, request, undo)
    except errors.LaunchError as error:
        if error.errno == errno.ETIMEDOUT and deadline is not None and loop.time() >= deadline:
            raise TimeoutError from error
        raise


async def launch_in_thread(
    loop: asyncio.AbstractEventLoop,
    start: Callable[[], _core.Handle],
    request: _core.Request,
    deadline: float | None,
    undo: Callable[[_core.Handle], Any],
) -> _core.Handle:
    """A launch that may hang for ever, on a volume: it gets a thread of its own. ``request``: the one that ``start``
    sends."""
    give_up = _GiveUp()
    request.cancel_fd = give_up.fd
    timer = None if deadline is None else loop.call_at(deadline, give_up.now)
    work = lambda: give_up.guard(start)  # noqa: E731
    try:
        return await in_thread(loop, work, None, give_up.now, undo)
    finally:
        if timer is not None:
            timer.cancel()


class _GiveUp:
    """An eventfd by which a launch in another thread is told to end. It is closed when that launch has returned."""

    def __init__(self) -> None:
        import threading

        self._lock = threading.Lock()
        self.fd = os.eventfd(0)

    def now(self) -> None:
        with self._lock:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def guard(self, launch: Callable[[], T]) -> T:
        try:
            return launch()
        finally:
            with self._lock:
                os.close(self.fd)
                self.fd = -1
