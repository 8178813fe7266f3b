"""What a keeper and its callers say to each other: marshalled values on a stream socket, each behind its length, with
descriptors. Both are of one user and one version (the state says which); ``socket`` and ``json`` cost more than a command
does, and the keeper would hold them for ever.
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys

from pyminicon.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MOST = 64 << 20  # bytes of one message
_PIECE = 1 << 16
_MOST_FDS = 32
_RIGHTS_SIZE = _socket.CMSG_SPACE(4 * _MOST_FDS)
_PEERCRED = 17  # socket(7), SO_PEERCRED
_RCVTIMEO, _SNDTIMEO = 20, 21


def packed(message: Any) -> bytes:
    """``message`` as it goes over the line."""
    data = marshal.dumps(message)
    return len(data).to_bytes(4, "little") + data


class Line:
    """One end. ``receive`` waits for the next message, ``arrived`` takes what there is of a non-blocking one."""

    def __init__(self, sock: _socket.socket) -> None:
        self.sock: _socket.socket = sock
        self.end: dict[str, Any] | None = None  # the container's, which a keeper tells as its last word
        self.fds: list[int] = []  # that have come, for the message that is whole next
        self._data = b""

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Any, fds: Sequence[int] = ()) -> None:
        """Sends all of it; descriptors go with the first byte. Raises ConnectionResetError where the other has gone, in
        whichever moment it went."""
        data = packed(message)
        try:
            done = self.sock.sendmsg([data], rights(fds))
            if done < len(data):
                self.sock.sendall(memoryview(data)[done:])
        except BrokenPipeError as error:
            raise ConnectionResetError(*error.args) from None

    def receive(self) -> Any:
        """The next message; None where the other has gone. Nothing behind it is read: whoever polls the line sees that."""
        while True:
            message = self._next()
            if message is not None:
                return message
            size = 4 + int.from_bytes(self._data[:4], "little") if len(self._data) >= 4 else 4
            if not self._read(size - len(self._data)):
                return None

    def arrived(self) -> list[Any] | None:
        """The messages that are whole by now; None where the other has gone."""
        try:
            gone = not self._read(_PIECE)
        except BlockingIOError:
            gone = False
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        return None if gone and not found else found

    def _read(self, most: int) -> bool:
        try:
            data, ancillary, _, _ = self.sock.recvmsg(most, _RIGHTS_SIZE, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return False
        for level, kind, words in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self.fds += [
                    int.from_bytes(words[at : at + 4], sys.byteorder) for at in range(0, len(words), 4)
                ]
        self._data += data
        return bool(data)

    def _next(self) -> Any:
        if len(self._data) < 4:
            return None
        size = int.from_bytes(self._data[:4], "little")
        if size > MOST:
            raise Error("a message that isn't one of ours")
        if len(self._data) < 4 + size:
            return None
        whole, self._data = self._data[4 : 4 + size], self._data[4 + size :]
        return marshal.loads(whole)

    def take_fds(self) -> list[int]:
        """The descriptors that came with the message, now the caller's."""
        fds, self.fds = self.fds, []
        return fds

    def close(self) -> None:
        for fd in self.take_fds():
            os.close(fd)
        self.sock.close()


def rights(fds: Sequence[int]) -> list[Any]:
    """Descriptors as sendmsg takes them."""
    if not fds:
        return []
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds))]


def set_patience(sock: _socket.socket, seconds: float) -> None:
    """How long each system call on it may wait, which raises BlockingIOError then; 0: for ever. Not settimeout: that
    one makes connect(2) fail at once where as many wait as listen(2) lets."""
    whole, rest = divmod(int(seconds * 1e6), 1_000_000)
    value = whole.to_bytes(8, sys.byteorder) + rest.to_bytes(8, sys.byteorder)  # struct timeval
    for option in (_SNDTIMEO, _RCVTIMEO):
        sock.setsockopt(_socket.SOL_SOCKET, option, value)


def peer_pid(sock: _socket.socket) -> int:
    """The process at the other end, or that made it listen; 0 where it is of another PID namespace."""
    return int.from_bytes(sock.getsockopt(_socket.SOL_SOCKET, _PEERCRED, 12)[:4], sys.byteorder)


def peer_uid(sock: _socket.socket) -> int:
    """Who is at the other end: of a listener's, who made it listen."""
    told = sock.getsockopt(_socket.SOL_SOCKET, _PEERCRED, 12)
    return int.from_bytes(told[4:8], sys.byteorder)


def address(directory: int) -> str:
    """The socket in a directory, by its descriptor: a path may be longer than an address (108 bytes)."""
    return f"/proc/self/fd/{directory}/socket"
