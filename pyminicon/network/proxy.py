"""The proxy of one container: HTTP, CONNECT and SOCKS5 at one port of its loopback, served by the caller.

One thread with a loop serves all containers of a process. It reads what is asked for, and connects; the bytes of
a tunnel are carried by the core's thread then.
"""

from __future__ import annotations

import asyncio
import collections
import os
import selectors
import socket
import sys
import threading

from pyminicon.network import requests
from pyminicon.network.requests import Refused, SocksRefused
from pyminicon.network.stream import Gone, Stream, within
from pyminicon.network.way_out import NotAllowed, Unreachable, WayOut
from pyminicon.result import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyminicon import _core
    from pyminicon.options.egress import Rules

_MOST_AT_ONCE = 128  # connections that are being read or answered; tunnels are the core's
_MOST_REFUSALS = 1000
_HEAD_TIME = 30.0  # seconds for a request to be read whole
_IDLE = 300.0  # seconds without a byte of a body

_lock = threading.Lock()
_loop: _Loop | None = None
#: Of processes that this one is a fork of: a loop that goes away says that nobody closed it.
_left: list[_Loop] = []
_proxies: dict[int, Proxy] = {}  # by their gates' numbers, until their containers' ends


class _Loop:
    """This process's; a fork makes its own. A container that asks for nothing doesn't wake it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # Of asyncio's own kind, whatever policy the program has.
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop(self._selector)
        self.heard, self.bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.heard.setblocking(False)
        self.loop.add_reader(self.heard, self._rung)
        threading.Thread(target=self.loop.run_forever, name="pyminicon-proxy", daemon=True).start()

    def leave(self) -> None:
        """In a fork: what it has open is the parent's. By which sockets a loop is woken is asyncio's own affair."""
        woken_by = [getattr(self.loop, name, None) for name in ("_ssock", "_csock")]
        for one in (self.heard, self.bell, *woken_by):
            if one is not None:
                os.close(one.detach())
        self._selector.close()

    def _rung(self) -> None:
        try:
            number = self.heard.recv(8)
        except (BlockingIOError, InterruptedError):
            return
        proxy = _proxies.get(int.from_bytes(number, sys.byteorder))
        if proxy is not None:
            proxy._begin_serving(self.loop)


def bell() -> int:
    """What is to be sent the number of a gate before the first connection comes through it."""
    global _loop
    loop = _loop
    if loop is None:
        with _lock:
            if _loop is None:
                _loop = _Loop()
            loop = _loop
    return loop.bell.fileno()


def _after_fork() -> None:
    """What a forked process has got of the proxies' sockets is closed in it: they are its parent's."""
    global _lock, _loop
    _lock = threading.Lock()
    if _loop is not None:
        _loop.leave()
        _left.append(_loop)
        _loop = None
    for proxy in list(_proxies.values()):
        proxy._leave()
    _proxies.clear()


os.register_at_fork(after_in_child=_after_fork)


class Proxy:
    """What is let out of one container, from its launch to its end."""

    def __init__(
        self,
        egress: Rules | Callable[[str, int], Any],
        headers: Mapping[str, Mapping[str, str]],
        gate: _core.Gate,
        home: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.refused: collections.deque[Refusal] = collections.deque(maxlen=_MOST_REFUSALS)
        self._asked = egress, home
        self._headers = headers
        self._gate = gate
        self._open: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._number: int = gate.number
        _proxies[self._number] = self

    def forget(self) -> None:
        """Its container has ended: no connection comes any more."""
        _proxies.pop(self._number, None)

    def _begin_serving(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._out = WayOut(*self._asked)
        self._line = socket.socket(fileno=os.dup(self._gate.line))
        self._line.setblocking(False)
        self._open.add(self._line)
        loop.add_reader(self._line, self._accepted)

    def _accepted(self) -> None:
        """A connection to the container's listener; or the end of all of them."""
        for _ in range(16):
            try:
                word, fds, _, _ = socket.recv_fds(self._line, 1, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                word, fds = b"", []
            if not word:
                self._end()
                return
            for fd in fds:
                self._begin(socket.socket(fileno=fd))

    def _begin(self, client: socket.socket) -> None:
        if len(self._tasks) >= _MOST_AT_ONCE:
            client.close()
            return
        client.setblocking(False)
        self._open.add(client)
        task = self._loop.create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self) -> None:
        self._loop.remove_reader(self._line)
        self._line.close()
        for task in list(self._tasks):
            task.cancel()

    def _leave(self) -> None:
        for one in self._open:
            try:
                os.close(one.detach())
            except OSError:
                continue

    async def _serve(self, client: socket.socket) -> None:
        stream = Stream(client)
        try:
            first = await within(_HEAD_TIME, stream.peek())
            if first == b"\x05":
                await self._socks(stream)
            elif not first.isalpha():
                await _tell(stream, 400, "this is a proxy for HTTP and for SOCKS, version 5")
            else:
                await self._http(stream)
        except (TimeoutError, OSError, Gone):
            pass  # the other side has gone, or takes too long
        finally:
            self._open.discard(client)
            client.close()

    async def _http(self, stream: Stream) -> None:
        try:
            try:
                request = requests.read(
                    await within(_HEAD_TIME, stream.until(b"\r\n\r\n", requests.MOST_HEAD))
                )
            except TimeoutError:
                raise Refused(408, "the request didn't come in time") from None
            upstream = await self._connected(request.host, request.port)
            if request.tunnel:
                await self._tunnel(stream, upstream, b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                await self._forward(stream, upstream, request)
        except NotAllowed as error:
            await _tell(stream, 403, str(error))
        except Unreachable as error:
            await _tell(stream, 502, str(error))
        except Refused as error:
            await _tell(stream, error.status, str(error))

    async def _connected(self, host: str, port: int) -> socket.socket:
        try:
            made = await self._out.connect(host, port)
        except NotAllowed as error:
            self.refused.append(Refusal(host, port, str(error)))
            raise
        self._open.add(made)
        return made

    async def _tunnel(self, stream: Stream, upstream: socket.socket, granted: bytes) -> None:
        """From here on nothing is looked at: the core's thread has both sockets."""
        try:
            await stream.send(granted)
            if early := stream.rest():
                await self._loop.sock_sendall(upstream, early)
            self._gate.carry(stream.socket.fileno(), upstream.fileno())
        finally:
            self._open.discard(upstream)
            upstream.close()

    async def _forward(self, stream: Stream, upstream: socket.socket, request: requests.Request) -> None:
        """One request, one answer: what comes after it on the connection is nobody's."""
        added = self._headers.get(request.host.lower().removesuffix("."), {})
        server = Stream(upstream)
        sending: asyncio.Task[None] | None = None
        try:
            await server.send(request.head(added))
            sending = self._loop.create_task(_body(stream, server, request))
            await _answer(server, stream)
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            self._open.discard(upstream)
            upstream.close()

    async def _socks(self, stream: Stream) -> None:
        try:
            host, port = await within(_HEAD_TIME, _asked_by_socks(stream))
            upstream = await self._connected(host, port)
            await self._tunnel(stream, upstream, requests.socks_answer(requests.SOCKS_GRANTED))
        except NotAllowed:
            await stream.send(requests.socks_answer(requests.SOCKS_NOT_ALLOWED))
        except Unreachable:
            await stream.send(requests.socks_answer(requests.SOCKS_UNREACHABLE))
        except SocksRefused as error:
            await stream.send(requests.socks_answer(error.code))


async def _asked_by_socks(stream: Stream) -> tuple[str, int]:
    _, count = await stream.exactly(2)
    methods = await stream.exactly(count)
    if 0 not in methods:
        await stream.send(b"\x05\xff")
        raise Gone
    await stream.send(b"\x05\x00")
    version, command, _, kind = await stream.exactly(4)
    if version != 5:
        raise Gone
    sizes = {1: 4, 4: 16}
    size = (await stream.exactly(1))[0] if kind == 3 else sizes.get(kind, 0)
    if not size:
        raise SocksRefused(requests.SOCKS_NO_ADDRESS, "no such type of address")
    host = requests.socks_host(kind, await stream.exactly(size))
    port = int.from_bytes(await stream.exactly(2), "big")
    if command != 1:
        raise SocksRefused(requests.SOCKS_NO_COMMAND, "only CONNECT")
    if not port:
        raise SocksRefused(requests.SOCKS_NO_ADDRESS, "there is no port 0")
    return host, port


async def _body(client: Stream, server: Stream, request: requests.Request) -> None:
    """What belongs to the request and not a byte more, as it is framed here."""
    left = request.size
    while left:
        piece = await within(_IDLE, client.some(left))
        await server.send(piece)
        left -= len(piece)
    while request.chunked:
        size = requests.chunk_size(await within(_IDLE, client.until(b"\r\n", 4096)))
        await server.send(b"%x\r\n" % size)
        left = size
        while left:
            piece = await within(_IDLE, client.some(left))
            await server.send(piece)
            left -= len(piece)
        if await within(_IDLE, client.exactly(2)) != b"\r\n":  # no trailers
            raise Gone
        await server.send(b"\r\n")
        request.chunked = size > 0


async def _answer(server: Stream, client: Stream) -> None:
    status = 100
    while status < 200:
        try:
            head = await within(_IDLE, server.until(b"\r\n\r\n", requests.MOST_HEAD))
        except (TimeoutError, OSError, Gone):
            raise Refused(502, "the server gave no answer") from None
        status, told = requests.answer_head(head)
        await client.send(told)
    while piece := await within(_IDLE, server.some_or_end()):
        await client.send(piece)


async def _tell(stream: Stream, status: int, why: str) -> None:
    """Why nothing comes of it, for a person to read."""
    reasons = {
        400: "Bad Request",
        403: "Forbidden",
        408: "Request Timeout",
        431: "Request Header Fields Too Large",
    }
    body = f"pyminicon: {why}\n".encode("ascii", "backslashreplace")
    head = (
        f"HTTP/1.1 {status} {reasons.get(status, 'Bad Gateway')}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    await stream.send(head.encode() + body)
    await stream.finish()
