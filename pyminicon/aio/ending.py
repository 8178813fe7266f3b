"""The end of one container on a loop: waited for, brought about, given up where it can't come."""

from __future__ import annotations

import asyncio
import os

from pyminicon.aio.thread import despite_cancelling, in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyminicon import _core
    from pyminicon.aio.loop import Watch

_PATIENCE_IN_D = 0.3


class Ending:
    """Waits for the pidfd of one container, or for a command in one; kills it; gives up on what can't die.

    ``lasts``: what it leaves, a layer on disk, takes long to remove. ``command``: one that was killed tells of its
    end, and then that the last of what has come of it is gone.
    """

    def __init__(self, watch: Watch, handle: _core.Handle, lasts: bool, command: bool = False) -> None:
        self.watch = watch
        self.loop: asyncio.AbstractEventLoop = watch.loop
        self.handle = handle
        self.pidfd: int = handle.pidfd
        self.lasts = lasts
        self.command = command
        self.gone: bool = False
        self.given_up: bool = False
        self.killed_at: float = 0.0
        self.look: asyncio.TimerHandle | None = None
        self.on_end: Callable[[], None] | None = None
        self.waiters: list[asyncio.Future[None]] = []
        watch.going += 1
        watch.add(self.pidfd, self.ended)

    def ended(self, _: int = -1) -> None:
        """The pidfd is readable: the kernel has ended everything in the container."""
        if not self.is_over():
            return
        self.forget()
        self.gone = True
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()
        self.wake()

    def is_over(self) -> bool:
        return not self.command or self.handle.poll() is not None

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
        if self.gone or not self.handle.owned:
            return
        self.handle.kill()
        if not self.killed_at and not self.loop.is_closed():
            self.killed_at = self.loop.time()
            self.look = self.loop.call_later(_PATIENCE_IN_D, self._look)

    def _look(self) -> None:
        """Long after the kill: is it only slow, or can't it die?"""
        if self.gone:
            return
        if self.handle.hopeless(self.loop.time() - self.killed_at):
            self.given_up = True
            self.handle.give_up()
            self.wake()
        else:
            self.look = self.loop.call_later(_PATIENCE_IN_D, self._look)

    async def kill_and_wait(self, close: Callable[[], bool] = lambda: False) -> asyncio.CancelledError | None:
        """Kills and waits, however often this task is cancelled meanwhile; the last such cancellation. ``close``
        ends it in another way, if it can, for which it has a moment."""
        if self.gone or not close():
            self.kill()
        else:
            self.loop.call_later(_PATIENCE_IN_D, self.kill)
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
            self.watch.remove(self.pidfd)
            self.watch.leave()
            self.pidfd = -1
        if self.look is not None:
            self.look.cancel()
