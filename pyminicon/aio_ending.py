"""The end of one container on a loop: waited for, brought about, given up where it can't come."""

from __future__ import annotations

import asyncio

from pyminicon.aio_thread import PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyminicon import _core

_PATIENCE_IN_D = 1.0


class Ending:
    """Waits for the pidfd of one container; kills it; gives up on what can't die."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: _core.Handle, pidfd: int) -> None:
        self.loop = loop
        self.handle = handle
        self.pidfd = pidfd
        self.gone = False
        self.given_up = False
        self.killed_at = 0.0
        self.on_end: Callable[[], None] | None = None
        self.waiters: list[asyncio.Future[None]] = []
        loop.add_reader(pidfd, self.ready)

    def ready(self) -> None:
        """What is watched is readable."""
        self.ended()

    def ended(self) -> None:
        """The pidfd is readable: the kernel has ended everything in the container."""
        self.loop.remove_reader(self.pidfd)
        self.gone = True
        if self.on_end is not None:
            self.on_end()
        self.wake()

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
        if not self.killed_at:
            self.killed_at = self.loop.time()
            self.loop.call_later(_PATIENCE_IN_D, self._look)

    def _look(self) -> None:
        """Long after the kill: is it only slow, or can't it die?"""
        if self.gone:
            return
        if self.loop.time() - self.killed_at >= PATIENCE or _sleeps_for_ever(self.handle.pid):
            self.given_up = True
            self.handle.give_up()
            self.wake()
        else:
            self.loop.call_later(_PATIENCE_IN_D, self._look)

    async def kill_and_wait(self) -> asyncio.CancelledError | None:
        """Kills and waits, however often this task is cancelled meanwhile; the last such cancellation."""
        self.kill()
        cancelled = None
        while not self.gone and not self.given_up:
            try:
                await self.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    async def undo(self) -> None:
        """Ends what nobody has got yet."""
        await self.kill_and_wait()
        self.forget()
        if self.gone:
            self.handle.poll()

    def forget(self) -> None:
        """Looks at the pidfd no more."""
        self.loop.remove_reader(self.pidfd)


def _sleeps_for_ever(pid: int) -> bool:
    """pid 1 itself, or a process that it has to wait for before it may end."""
    return _state(pid) == b"D" or any(_state(int(child)) == b"D" for child in _children(pid))


def _state(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read(512).rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return b""


def _children(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return file.read(4096).split()
    except OSError:
        return []
