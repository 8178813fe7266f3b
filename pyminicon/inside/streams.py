"""A file that isn't handed out: its worker reads or writes it, and a pipe leads here.

Nobody waits for such a file system longer than for any other answer: a read that nothing comes of within
:data:`pyminicon.inside.workers.PATIENCE` is a TimeoutError, and the worker is killed.
"""

from __future__ import annotations

import errno
import io
import os
import select

from pyminicon.inside import wire, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyminicon.inside.home import Home

_MOST_AT_ONCE = 256 << 20  # of a file of which nobody knows where it ends
_PIECE = 64 << 10


class NeedsPipe(Exception):
    """What ``open`` was told by its worker."""


class PipeFile(io.FileIO):
    """The raw file beneath what ``open`` gives: reads or writes, and can't seek."""

    def __init__(self, home: Home, worker: workers.Worker, told: str, open_flags: int) -> None:
        self._home: Home = home
        self._worker: workers.Worker | None = worker
        self._told: str = told
        self._failure: OSError | None = None  # what the worker has said of its part
        self._reads = open_flags & os.O_ACCMODE == os.O_RDONLY
        if open_flags & os.O_ACCMODE == os.O_RDWR:
            raise io.UnsupportedOperation(errno.ESPIPE, "only read or only written: no disk's file", told)
        ends = os.pipe2(os.O_CLOEXEC)
        ours, theirs = ends if self._reads else ends[::-1]
        try:
            worker.send(wire.Request(wire.PUMP, told=told, open_flags=open_flags, fd=theirs))
            os.set_blocking(ours, False)
            super().__init__(ours, "rb" if self._reads else "wb")
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self.name: Any = told

    def seekable(self) -> bool:
        """It isn't."""
        return False

    def readinto(self, buffer: Any) -> int:
        """Waits for some bytes; 0 at the end."""
        self._await(select.POLLIN)
        got: int | None = super().readinto(buffer)
        if not got and memoryview(buffer):
            self._settle()
        return got or 0

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` bytes; all, where that is negative."""
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(min(size, _PIECE))
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def readall(self) -> bytes:
        """To the end. Raises OSError (EFBIG) where that doesn't come: read such a file in pieces."""
        pieces, size = [], 0
        while piece := self.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > _MOST_AT_ONCE:
                raise wire.failure(errno.EFBIG, self._told)
        return b"".join(pieces)

    def write(self, data: Any) -> int:
        """Waits until some of it could be written."""
        self._await(select.POLLOUT)
        try:
            return super().write(data) or 0
        except BrokenPipeError as error:
            self._settle()
            raise self._failure or error from None  # a buffer tries again what it couldn't get rid of

    def _await(self, what: int) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        watch = select.poll()
        watch.register(self.fileno(), what)
        if not watch.poll(workers.PATIENCE * 1000):
            self._drop()
            raise workers.timeout(self._told)

    def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.discard()

    def _settle(self) -> None:
        """What the worker says when its part is over."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            worker.socket.settimeout(workers.PATIENCE)
            reply = worker.receive(self._told)
        except TimeoutError:
            worker.discard()
            raise workers.timeout(self._told) from None
        except BaseException:
            worker.discard()
            raise
        self._home.workers.give(worker)
        try:
            reply.checked(self._told)
        except OSError as error:
            self._failure = error
            raise

    def close(self) -> None:
        """Of a file that was written: its file system says only now what failed."""
        if self.closed:
            return
        super().close()
        if self._reads:
            self._drop()
        else:
            self._settle()

    def __del__(self) -> None:
        if getattr(self, "_worker", None) is not None:
            self._drop()


def contents(file: Any) -> bytes:
    """All that is in an unbuffered file."""
    if isinstance(file, PipeFile):
        return file.readall()
    pieces: list[bytes] = []
    left = os.fstat(file.fileno()).st_size
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def open_file(
    told: str,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    descriptor: Callable[[int], int],
    through_pipe: Callable[[int], PipeFile],
) -> Any:
    """What ``io.open`` gives, on ``descriptor(flags)``, or on ``through_pipe(flags)`` where that raises NeedsPipe."""
    wanted = 0

    def opener(_: str, flags: int) -> int:
        nonlocal wanted
        wanted = flags & ~os.O_CLOEXEC
        return descriptor(wanted)

    try:
        return open(told, mode, buffering, encoding, errors, newline, opener=opener)
    except NeedsPipe:
        pass
    raw = through_pipe(wanted)
    text = "b" not in mode
    if buffering == 0 and not text:
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    buffered: Any = io.BufferedReader(raw, size) if raw.readable() else io.BufferedWriter(raw, size)
    if not text:
        return buffered
    wrapped = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
    wrapped.mode = mode  # type: ignore[misc]
    return wrapped
