"""A socket on a loop, read in pieces that are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable
    from typing import TypeVar

    T = TypeVar("T")

_PIECE = 64 << 10
_SEND_TIME = 300.0  # seconds for a piece to be taken
_LINGER = 2.0  # seconds for a refused client to stop sending


class Gone(Exception):
    """The other side has ended too early, or says what makes no sense."""


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Raises TimeoutError. `asyncio.wait_for` forgets, before Python 3.12, that it was cancelled if ``work`` ends in that
    moment: a container's end left a request waiting for its answer then."""
    async with asyncio.timeout(seconds):
        return await work


class Stream:
    """Of one connected socket that doesn't block."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket: sockets.socket = socket
        # What is small and isn't the first goes at once, and doesn't wait until the other side acknowledges that.
        socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        self._held = b""

    async def _more(self) -> bool:
        got = await asyncio.get_running_loop().sock_recv(self.socket, _PIECE)
        self._held += got
        return bool(got)

    async def peek(self) -> bytes:
        """The first byte, which stays."""
        if not self._held and not await self._more():
            raise Gone
        return self._held[:1]

    async def until(self, end: bytes, most: int) -> bytes:
        """What comes before ``end``, without it; bytes at most. Raises Gone, Refused."""
        from pyminicon.network.requests import Refused

        begin = 0
        while (at := self._held.find(end, begin)) < 0:
            if len(self._held) > most:
                raise Refused(431, "the header is too long")
            begin = max(0, len(self._held) - len(end))
            if not await self._more():
                raise Gone
        if at > most:
            raise Refused(431, "the header is too long")
        found, self._held = self._held[:at], self._held[at + len(end) :]
        return found

    async def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            if not await self._more():
                raise Gone
        found, self._held = self._held[:count], self._held[count:]
        return found

    async def some(self, most: int) -> bytes:
        """What there is, and no more; never nothing. Raises Gone."""
        if not self._held and not await self._more():
            raise Gone
        found, self._held = self._held[:most], self._held[most:]
        return found

    async def some_or_end(self) -> bytes:
        """The same; nothing at the end."""
        if not self._held:
            await self._more()
        return self.rest()

    def rest(self) -> bytes:
        """What has been read and not taken."""
        found, self._held = self._held, b""
        return found

    async def send(self, data: bytes) -> None:
        await within(_SEND_TIME, asyncio.get_running_loop().sock_sendall(self.socket, data))

    async def finish(self) -> None:
        """Nothing more is said. What still comes is read for a moment: to close on it would be a reset, which may
        take the answer away from whoever hasn't read it."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            self.socket.shutdown(sockets.SHUT_WR)
            await within(_LINGER, self._drain())

    async def _drain(self) -> None:
        left = 1 << 20
        self._held = b""
        while left > 0 and await self._more():
            left -= len(self._held)
            self._held = b""
