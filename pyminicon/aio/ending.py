"""The end of one container on a loop: waited for, brought about, given up where it can't come."""

from __future__ import annotations

import asyncio
import os

from pyminicon import _core
from pyminicon.aio.thread import despite_cancelling, in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyminicon.aio.loop import Watch

_PATIENCE = 0.3  # seconds for what was told to end


class Ending:
    """Steps the supervisor of one container, or of a command in one, from the loop.

    ``lasts``: what it leaves, a layer on disk, takes long to remove.
    """

    def __init__(
        self, watch: Watch, handle: _core.Handle, lasts: bool, supervisor: _core.Supervisor | None = None
    ) -> None:
        self.watch = watch
        self.loop: asyncio.AbstractEventLoop = watch.loop
        self.handle = handle
        self.pidfd: int = handle.pidfd
        self.lasts = lasts
        self.supervisor: _core.Supervisor = supervisor or _core.Supervisor(handle)
        self.gone: bool = False
        self.given_up: bool = False
        self.timer: asyncio.TimerHandle | None = None
        self.on_end: Callable[[], None] | None = None
        self.waiters: list[asyncio.Future[None]] = []
        watch.going += 1
        watch.add(self.pidfd, self.step, self.supervisor)
        self.set_timer()

    def step(self, _: int = -1) -> None:
        """Something has come, or so much time has gone by."""
        self.supervisor.step()
        if self.supervisor.gone:
            self.forget()
            self.gone = True
            on_end, self.on_end = self.on_end, None
            if on_end is not None:
                on_end()
            return self.wake()
        if self.supervisor.given_up:
            self.given_up = True
            self.wake()
        return self.set_timer()

    def set_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        left = self.supervisor.left if self.pidfd >= 0 and not self.loop.is_closed() else None
        self.timer = None if left is None else self.loop.call_later(left, self.step)

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Returns when it is gone, or given up."""
        while not self.gone and not self.given_up:
            waiter: asyncio.Future[None] = self.loop.create_future()
            self.waiters.append(waiter)
            await waiter

    def kill(self) -> None:
        if not self.gone and self.handle.owned:
            self.supervisor.kill()
            self.set_timer()

    async def kill_and_wait(self, close: Callable[[], bool] = lambda: False) -> asyncio.CancelledError | None:
        """Kills and waits, however often this task is cancelled meanwhile; the last such cancellation. ``close``
        ends it in another way, if it can, for which it has a moment."""
        if self.gone or not close():
            self.kill()
        else:
            self.loop.call_later(_PATIENCE, self.kill)
        cancelled = None
        while not self.gone and not self.given_up:
            try:
                await self.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    async def bury(self) -> asyncio.CancelledError | None:
        """Takes the status and removes what it left, however often this task is cancelled meanwhile; the
        last such cancellation."""
        cancelled = None
        if self.lasts:
            cancelled = await despite_cancelling(in_thread(self.loop, self.handle.poll, None))
        self.handle.poll()
        return cancelled

    async def undo(self) -> None:
        """Ends what nobody will ask for any more; nothing of it is left."""
        await self.kill_and_wait()
        self.forget()
        for which in (0, 1, 2):  # a traceback may keep the handle
            fd = self.handle.take_stream(which)
            if fd >= 0:
                os.close(fd)
        if self.gone:
            await self.bury()
            self.handle.release()

    def forget(self) -> None:
        """Looks at the pidfd no more; its number may be another's from now on."""
        if self.pidfd >= 0:
            self.watch.remove(self.pidfd, self.supervisor)
            self.watch.leave()
            self.pidfd = -1
        if self.timer is not None:
            self.timer.cancel()
