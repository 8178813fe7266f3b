"""Sockets in a container's network, for a loop."""

from __future__ import annotations

import asyncio
import socket

from pyminicon.aio.thread import in_thread
from pyminicon.network import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LOOK_AGAIN = 0.005  # seconds


async def connect(
    box: sockets.Box, loop: asyncio.AbstractEventLoop, where: Any, host: str, timeout: float | None
) -> socket.socket:
    """See AsyncContainer.connect."""
    to = sockets.address(where, host)
    timeout = None if timeout is None else sockets.timeout_of(timeout)
    try:
        async with asyncio.timeout(timeout):
            return await _connected(box, loop, to, timeout)
    except TimeoutError:
        raise sockets.too_late(to) from None


async def _connected(
    box: sockets.Box, loop: asyncio.AbstractEventLoop, to: sockets.Address, timeout: float | None
) -> socket.socket:
    while True:
        try:
            made, pending = await _made(box, loop, to, timeout)
            break
        except BlockingIOError:  # AF_UNIX: as many wait there as may
            await asyncio.sleep(_LOOK_AGAIN)
    try:
        if pending:
            await _writable(loop, made)
        sockets.insist(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), to)
    except BaseException:
        made.close()
        raise
    return made


async def _made(
    box: sockets.Box, loop: asyncio.AbstractEventLoop, to: sockets.Address, timeout: float | None
) -> tuple[socket.socket, bool]:
    if to[0] != socket.AF_UNIX:
        return sockets.make(box, to, False, None)
    # A name inside may lie where no answer comes, and the loop goes on meanwhile.
    return await in_thread(loop, lambda: sockets.make(box, to, False, timeout), lambda made: made[0].close())


async def _writable(loop: asyncio.AbstractEventLoop, made: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_writer(made, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(made)


async def listen(box: sockets.Box, port: int, host: str) -> socket.socket:
    """See AsyncContainer.listen."""
    return sockets.listen(box, port, host)
