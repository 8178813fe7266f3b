"""Container.communicate: feeding and draining a container that was started, with a timeout.

As subprocess's, with two differences. It ends when the container has ended, also when a process that
doesn't belong to it holds the write end of a pipe. And what a reader has already pulled into a stream's
own buffer isn't lost.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import select
import sys
import termios
import time

from pyminicon import _core, errors, patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Protocol

    from pyminicon.options import Spec

    class Box(Protocol):
        """A Container, as far as it is talked with."""

        args: Any
        stdin: IO[Any] | None
        stdout: IO[Any] | None
        stderr: IO[Any] | None
        _spec: Spec
        _talk: Talk | None
        _talking: Any

        def fileno(self) -> int: ...
        def _called(self) -> Any: ...
        def wait(self, timeout: float | None = None) -> int: ...


def communicate(box: Box, input: Any, timeout: float | None) -> tuple[Any, Any]:
    """See Container.communicate."""
    deadline = None if timeout is None else time.monotonic() + timeout
    most = -1 if timeout is None else min(max(timeout, 0.0), _thread.TIMEOUT_MAX)
    if not box._talking.acquire(timeout=most):
        raise errors.TimeoutExpired(box._called(), timeout or 0.0)
    try:
        return _communicate(box, input, deadline, timeout)
    finally:
        box._talking.release()


def _communicate(box: Box, input: Any, deadline: float | None, timeout: float | None) -> tuple[Any, Any]:
    talk = box._talk
    if talk is None:
        talk = box._talk = Talk(box, input)
    elif input:
        raise ValueError("Cannot send input after starting communication")
    if talk.result is None:
        talk.go_on(deadline, timeout)
    assert talk.result is not None
    return talk.result


def _encode(box: Box, input: Any) -> bytes:
    if box._spec.text:
        if not isinstance(input, str):
            raise TypeError(f"input takes a str with text=True, not {type(input).__name__}")
        return input.encode(box._spec.encoding or "utf-8", box._spec.errors or "strict")
    if isinstance(input, str):
        raise TypeError("input takes bytes; with text=True it takes a str")
    return bytes(memoryview(input))


def waiting_in(fd: int) -> int:
    """How many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


class Talk:
    """One communication, which may take several calls with a timeout."""

    def __init__(self, box: Box, input: Any) -> None:
        self.box = box
        self.result: tuple[Any, Any] | None = None
        # What it may write in all is counted elsewhere (`relayed`).
        self.exchange: _core.Exchange = _core.Exchange(_encode(box, input) if input else b"", None, False)
        # With max_output a relay stands between: what it still holds comes after the container's end,
        # and then the pipe's own end.
        self.relayed: bool = box._spec.max_output is not None
        self.ended: bool = box.fileno() < 0  # closed
        self.input: int = -1
        self.flushed: bool = False  # what the caller had written by himself goes first
        self.outputs: dict[int, int] = {}  # descriptor: 1 or 2
        if box.stdin is not None and not box.stdin.closed:
            self.input = box.stdin.fileno()
        for which, stream in ((1, box.stdout), (2, box.stderr)):
            if stream is not None and not stream.closed:
                self.outputs[stream.fileno()] = which

    def _close_input(self) -> None:
        self.input = -1
        assert self.box.stdin is not None
        try:
            self.box.stdin.close()
        except OSError:  # nobody reads any more: as in subprocess no error
            pass

    def go_on(self, deadline: float | None, timeout: float | None) -> None:
        """Feeds and reads until the end (then ``result`` is there) or the deadline (TimeoutExpired)."""
        ours = [fd for fd in (self.input, *self.outputs) if fd >= 0]
        for fd in ours:
            os.set_blocking(fd, False)
        try:
            self._exchange(deadline, timeout)
        finally:  # whoever goes on with the streams himself finds them as they were
            for fd in (self.input, *self.outputs):
                if fd >= 0:
                    os.set_blocking(fd, True)
        self.box.wait()
        self.result = self._finish(1), self._finish(2)

    def _exchange(self, deadline: float | None, timeout: float | None) -> None:
        poll = select.poll()
        if not self.ended:
            poll.register(self.box.fileno(), select.POLLIN)
        if self.input >= 0:
            poll.register(self.input, select.POLLOUT)
        for fd in self.outputs:
            poll.register(fd, select.POLLIN)
        while not self.ended or (self.relayed and self.outputs):
            left = None if deadline is None else deadline - time.monotonic()
            for fd, _ in poll.poll(patience.poll_ms(left)):
                self._serve(poll, fd)
            if left is not None and left <= 0 and not self.ended:
                self._expire(timeout)
        if not self.relayed:  # what the pipes hold is all there will be, or at least all that is waited for
            for fd, which in self.outputs.items():
                self.exchange.drain(which, fd)
        if self.input >= 0:
            self._close_input()

    def _serve(self, poll: select.poll, fd: int) -> None:
        if fd == self.box.fileno():
            self.ended = True
            poll.unregister(fd)
        elif fd == self.input:
            if not self._write():
                poll.unregister(fd)
                self._close_input()
        elif not self.exchange.read(self.outputs[fd], fd):
            del self.outputs[fd]
            poll.unregister(fd)

    def _expire(self, timeout: float | None) -> None:
        so_far = [self.exchange.output(which) or None for which in (1, 2)]
        raise errors.TimeoutExpired(self.box._called(), timeout or 0.0, output=so_far[0], stderr=so_far[1])

    def _write(self) -> bool:
        """False when there is nothing more to write."""
        try:
            if not self.flushed:
                assert self.box.stdin is not None
                self.box.stdin.flush()
                self.flushed = True
        except BlockingIOError:
            return True
        except OSError:  # nobody reads any more
            return False
        return self.exchange.feed(self.input)

    def _finish(self, which: int) -> Any:
        stream: Any = self.box.stdout if which == 1 else self.box.stderr
        if stream is None:
            return None
        if stream.closed:
            return "" if self.box._spec.text else b""
        data = self.exchange.output(which)
        with stream:
            if self.box._spec.text:
                return _read_through(stream, data)
            os.set_blocking(stream.fileno(), False)  # another's copy of the write end may be open
            return stream.peek() + data


def _read_through(stream: Any, data: bytes) -> str:
    """The rest of a text stream, ``data`` being what was read below it: through its own decoder, which
    may be in the middle of a character, behind what it holds already."""
    fd = os.memfd_create("pyminicon-rest")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        os.dup2(fd, stream.fileno(), inheritable=False)
    finally:
        os.close(fd)
    text: str = stream.read()
    return text
