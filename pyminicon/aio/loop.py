"""What all containers of one loop have in common: what is waited for, and the launches beside the loop."""

from __future__ import annotations

import asyncio
import os
import select
import weakref

from pyminicon import _core, errors
from pyminicon.aio.thread import PATIENCE, despite_cancelling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Ready = Callable[[int], object]

# By the loop's id, which is nobody else's while its Watch, and so the loop, is alive. Not a
# WeakValueDictionary: each of its methods costs ten times what this does.
_watches: dict[int, weakref.ref[Watch]] = {}


def enter(loop: asyncio.AbstractEventLoop) -> Watch:
    """The loop's Watch, which stays until as many have left it as have entered."""
    known = _watches.get(id(loop))
    watch = known() if known is not None else None
    if watch is None or watch.pid != os.getpid():
        watch = Watch(loop)
        _watches[id(loop)] = weakref.ref(watch)
    watch.going += 1
    return watch


class Watch:
    """One epoll for the pidfds and pipes of all containers of a loop, and only that watched by the loop: a loop has
    one reader for each descriptor, and a container's pidfd is the caller's to watch.

    It is there as long as somebody is in it, and leaves nothing. In a forked process, which shares the
    epoll with us, it does nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pid: int = os.getpid()
        self.going: int = 0
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._launches: _core.Launches | None = None
        self._pending: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self._epoll.fileno(), self._look)

    def leave(self) -> None:
        """Opposite of :func:`enter`; the last one puts out the light."""
        self.going -= 1
        if self.going or self.pid != os.getpid():
            return
        _watches.pop(id(self.loop), None)
        if not self.loop.is_closed():
            self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        if self._launches is not None:
            self._launches.close()

    def add(self, fd: int, ready: Ready, supervisor: _core.Supervisor | None = None) -> None:
        """Calls ``ready(fd)`` while it is readable, or there is something to do for the supervisor of its container."""
        if supervisor is None:
            self._epoll.register(fd, select.EPOLLIN)
        else:
            supervisor.wait_by(self._epoll.fileno())
        self._ready[fd] = ready

    def remove(self, fd: int, supervisor: _core.Supervisor | None = None) -> None:
        """Before ``fd`` is closed: a copy of it elsewhere would keep it here."""
        if self._ready.pop(fd, None) is None or self.pid != os.getpid():
            return
        if supervisor is None:
            self._epoll.unregister(fd)
        else:
            supervisor.let_go()

    def _look(self) -> None:
        for fd, _ in self._epoll.poll(0):
            ready = self._ready.get(fd)
            if ready is not None:  # else the end of its container, a moment ago, has removed it
                ready(fd)

    async def launch(
        self, plan: _core.Plan, request: _core.Request, undo: Callable[[_core.Handle], Any]
    ) -> _core.Handle:
        """Has the core launch in a thread of its own (csrc/parent/pool/launch_pool.h), which knows no GIL.

        Cancelled, it takes the request back, or waits until the launch is over and undoes it.
        """
        if self._launches is None:
            self._launches = _core.Launches()
            self.add(self._launches.fd, self._launched)
        pending = self._launches.begin(plan, request)
        try:
            await self._over(pending)
        except asyncio.CancelledError:
            if not pending.withdraw():
                await despite_cancelling(self._undone(pending, undo))
            raise
        return pending.result()

    async def _undone(self, pending: _core.Pending, undo: Callable[[_core.Handle], Any]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._over(pending)
            made = pending.result()
        except TimeoutError:  # it hangs; whoever launches it will find that nobody wants it
            return
        except errors.Error:
            return
        await undo(made)

    async def _over(self, pending: _core.Pending) -> None:
        if pending.over:
            return
        over = self._pending[pending.number] = self.loop.create_future()
        try:
            await over
        finally:
            del self._pending[pending.number]

    def _launched(self, _: int) -> None:
        assert self._launches is not None
        for number in self._launches.finished():
            over = self._pending.get(number)
            if over is not None and not over.done():
                over.set_result(None)
