"""Pipes between the caller's terminal and a container: only where a descriptor can't be handed over."""

from __future__ import annotations

import os
import select

from pyminicon import patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from pyminicon.container import Container

_PIECE = 65536


def relay(box: Container[Any]) -> None:
    """Copies stdin to ``box`` and its stdout and stderr to ours, until it has ended and all is shown."""
    _Relay(box).serve()


class _Relay:
    def __init__(self, box: Container[Any]) -> None:
        self.box = box
        self.poll = select.poll()
        self.shown: dict[int, tuple[IO[Any], int]] = {}  # a pipe's read end, and where it goes
        self.unsent = b""
        self.poll.register(box.pidfd, select.POLLIN)
        for stream, to in ((box.stdout, 1), (box.stderr, 2)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self.shown[stream.fileno()] = (stream, to)
                self.poll.register(stream.fileno(), select.POLLIN)
        self.fed = -1
        if box.stdin is not None:
            self.fed = box.stdin.fileno()
            os.set_blocking(self.fed, False)
            self.poll.register(0, select.POLLIN)
            self.poll.register(self.fed, 0)  # POLLERR comes unasked, when nobody reads any more

    def serve(self) -> None:
        ended = False
        while not ended:
            for fd, events in self.poll.poll(patience.poll_ms(None)):
                if fd == self.box.pidfd:
                    ended = True
                elif fd in self.shown:
                    self._show(fd)
                elif self.fed >= 0:
                    self._feed(fd, events)
        for fd in list(self.shown):  # what it wrote last; who still holds the pipe isn't waited for
            while self._show(fd):
                pass

    def _show(self, fd: int) -> bool:
        stream, to = self.shown[fd]
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            return False
        if data:
            try:
                write_all(to, data)
                return True
            except OSError:  # nobody reads us, or the terminal is gone: then nobody reads the container
                pass
        self.poll.unregister(fd)
        del self.shown[fd]
        stream.close()
        return False

    def _feed(self, fd: int, events: int) -> None:
        """A program that doesn't read must not keep us from showing what it writes."""
        if fd == 0:
            data = read_some(0)
            if not data and not self.unsent:
                return self._end_of_input()
            self.unsent += data
        elif events & select.POLLERR:
            return self._end_of_input()
        try:
            self.unsent = self.unsent[os.write(self.fed, self.unsent) :] if self.unsent else b""
        except BlockingIOError:
            pass
        except BrokenPipeError:
            return self._end_of_input()
        self.poll.modify(self.fed, select.POLLOUT if self.unsent else 0)
        self.poll.modify(0, 0 if self.unsent else select.POLLIN)
        return None

    def _end_of_input(self) -> None:
        self.poll.unregister(0)
        self.poll.unregister(self.fed)
        self.fed = -1
        assert self.box.stdin is not None
        self.box.stdin.close()


def read_some(fd: int) -> bytes:
    """What there is to read from a terminal, b"" at its end and when it has gone (EIO)."""
    try:
        return os.read(fd, _PIECE)
    except OSError:
        return b""


def write_all(fd: int, data: bytes) -> None:
    """Writes all of ``data``, waiting where ``fd`` is full: whoever shares it may have made it non-blocking."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])
