"""Sockets in a container's network, made there and held here: connected, listening."""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from pyminicon import errors, patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pyminicon import _core
    from pyminicon.options import Spec

    class Box(Protocol):
        """A container, as far as its sockets depend on it."""

        id: str
        pid: int
        _handle: _core.Handle
        _spec: Spec


_LOOK_AGAIN = 0.005  # seconds
_MOST_PATH = 107  # bytes: sockaddr_un
_LISTENS = b"0A"  # a socket's state in /proc/net/tcp

#: (family, packed address or path, port)
Address = tuple[int, bytes, int]


def port_number(port: Any, least: int = 1) -> int:
    """A port inside. Raises SpecError."""
    if isinstance(port, bool) or not isinstance(port, int) or not least <= port <= 65535:
        raise errors.SpecError("port", f"takes a whole number from {least} to 65535, not {port!r:.40}")
    return port


_ENDLESS = 1e9  # seconds: more than the clock's type holds everywhere


def timeout_of(timeout: Any) -> float:
    """A timeout that has to be given. Raises SpecError."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise errors.SpecError("timeout", f"takes seconds, not {timeout!r:.40}")
    return min(timeout, _ENDLESS)


def address(where: Any, host: str = "127.0.0.1", least: int = 1) -> Address:
    """Where to connect, or with a port to listen. Raises SpecError."""
    if isinstance(where, (str, bytes, os.PathLike)):
        path = os.fsencode(where)
        if not path.startswith(b"/") or b"\0" in path:
            raise errors.SpecError(
                "port_or_unix_path", "takes a port, or the absolute path of a socket inside"
            )
        if len(path) > _MOST_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fsdecode(path))
        return socket.AF_UNIX, path, 0
    port = port_number(where, least)
    name = "127.0.0.1" if host == "localhost" else host
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return family, socket.inet_pton(family, name), port
        except (OSError, TypeError, ValueError):
            continue
    raise errors.SpecError("host", f"takes an address inside, as 127.0.0.1 or ::1, not {host!r:.80}")


def make(box: Box, to: Address, listens: bool, timeout: float | None) -> tuple[socket.socket, bool]:
    """A socket that doesn't block, and whether its connection is still to come. OSError; LaunchError, with
    ESHUTDOWN where the container has ended."""
    family, host, port = to
    if family != socket.AF_UNIX and box._spec.network == "off":
        raise errors.SpecError("network", "is 'off': there are no ports inside, only paths")
    if family == socket.AF_UNIX or box._spec.network != "host":
        try:
            fd, pending = box._handle.socket_inside(family, host, port, listens, timeout)
        except TimeoutError:
            raise too_late(to) from None
        made = socket.socket(fileno=fd)
        made.setblocking(False)  # as it is: Python's own timeout is another thing
        return made, pending
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if listens:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((socket.inet_ntop(family, host), port))
            made.listen(4096)
            return made, False
        failed = made.connect_ex((socket.inet_ntop(family, host), port))
        insist(failed if failed != errno.EINPROGRESS else 0, to)
        return made, failed != 0
    except BaseException:
        made.close()
        raise


def insist(failed: int, to: Address) -> None:
    """Raises what a connection has come to."""
    if failed:
        raise OSError(failed, f"{os.strerror(failed)}: {spoken(to)} in the container")


def spoken(to: Address) -> str:
    family, host, port = to
    if family == socket.AF_UNIX:
        return os.fsdecode(host)
    name = socket.inet_ntop(family, host)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def too_late(to: Address) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"{spoken(to)} in the container doesn't answer")


def left(deadline: float | None, to: Address) -> float | None:
    """Seconds; TimeoutError when there are none."""
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise too_late(to)
    return seconds


def connect(box: Box, where: Any, host: str, timeout: float | None) -> socket.socket:
    """See Container.connect."""
    to = address(where, host)
    timeout = None if timeout is None else timeout_of(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            made, pending = make(box, to, False, timeout)
            break
        except BlockingIOError:  # AF_UNIX: as many wait there as may
            time.sleep(min(_LOOK_AGAIN, left(deadline, to) or _LOOK_AGAIN))
    try:
        while pending:
            poll = select.poll()
            poll.register(made, select.POLLOUT)
            seconds = left(deadline, to)
            pending = not poll.poll(patience.poll_ms(seconds))
        insist(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), to)
        made.setblocking(True)
    except BaseException:
        made.close()
        raise
    return made


def listen(box: Box, port: int, host: str) -> socket.socket:
    """See Container.listen; the socket doesn't block."""
    return make(box, address(port_number(port, 0), host, 0), True, None)[0]


def somebody_listens(box: Box, port: int) -> bool:
    """Whether there is a listener at that port inside, looked up and not tried: a server that takes one connection
    would take ours."""
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{box.pid}/net/{table}", "rb") as file:
                rows = [line.split(None, 4) for line in file]
        except OSError:
            continue
        if any(row[3] == _LISTENS and int(row[1].rpartition(b":")[2], 16) == port for row in rows[1:]):
            return True
    return False


def not_there(port: int, timeout: float) -> TimeoutError:
    return TimeoutError(
        errno.ETIMEDOUT, f"nothing listens at port {port} in the container after {timeout:g} s"
    )
