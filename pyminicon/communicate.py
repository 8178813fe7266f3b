"""Container.communicate: feeding and draining a container that was started, with a timeout.

As subprocess's, with two differences. It ends when the container has ended, also when a process that
doesn't belong to it holds the write end of a pipe. And what a reader has already pulled into a stream's
own buffer isn't lost.
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import os
import sys
import termios
import time

from pyminicon import _core, errors

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
        _handle: _core.Handle
        _spec: Spec
        _talk: Talk | None
        _talking: Any

        def _called(self) -> Any: ...
        def wait(self, timeout: float | None = None) -> int: ...


_MFD_NOEXEC_SEAL = 8  # Linux 6.3; where vm.memfd_noexec is 2 no other may be made


def communicate(box: Box, input: Any, timeout: float | None, greenlets: Any) -> tuple[Any, Any]:
    """See Container.communicate. ``greenlets``: among_greenlets()."""
    deadline = None if timeout is None else time.monotonic() + timeout
    most = -1 if timeout is None else min(max(timeout, 0.0), _thread.TIMEOUT_MAX)
    if not box._talking.acquire(timeout=most):
        raise errors.TimeoutExpired(box._called(), timeout or 0.0)
    try:
        talk = box._talk
        if talk is None:
            talk = box._talk = Talk(box, input)
        elif input:
            raise ValueError("Cannot send input after starting communication")
        return talk.result or talk.go_on(deadline, timeout, greenlets)
    finally:
        box._talking.release()


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


def _memory_file() -> int:
    try:
        return os.memfd_create("pyminicon-rest", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3
            raise
        return os.memfd_create("pyminicon-rest")


def _taken(stream: Any) -> tuple[int, bytes]:
    """The pipe of a stdin, which is closed with that, and what the caller had written and waits in it."""
    pipe = os.dup(stream.fileno())
    fd = _memory_file()
    try:
        os.dup2(fd, stream.fileno(), inheritable=False)
        stream.close()
        return pipe, os.pread(fd, os.fstat(fd).st_size, 0)
    except BaseException:
        os.close(pipe)
        raise
    finally:
        os.close(fd)


class Talk:
    """One communication, which may take several calls with a timeout."""

    def __init__(self, box: Box, input: Any) -> None:
        self.box: Box = box
        self.result: tuple[Any, Any] | None = None
        data = _encode(box, input) if input else b""
        self.outputs: list[int] = [_fileno(stream) for stream in (box.stdout, box.stderr)]
        pipe = _fileno(box.stdin)
        if pipe >= 0:
            pipe, before = _taken(box.stdin)
            data = before + data
        self.supervisor: _core.Supervisor = _core.Supervisor(
            box._handle,
            (pipe, self.outputs[0], self.outputs[1]),
            input=data,
            # With max_output, which is counted elsewhere, a relay stands between: what it still holds comes
            # after the container's end, and then the pipe's own end.
            relayed=box._spec.max_output is not None,
            borrowed=True,
        )

    def go_on(self, deadline: float | None, timeout: float | None, greenlets: Any) -> tuple[Any, Any]:
        """Feeds and reads until the end, or the deadline (TimeoutExpired)."""
        self._block(False)
        try:
            left = None if deadline is None else deadline - time.monotonic()
            go_on = self.supervisor.go_on
            if not (go_on(left) if greenlets is None else greenlets.go_on(self.supervisor, left)):
                so_far = [self.supervisor.output(which) or None for which in (1, 2)]
                raise errors.TimeoutExpired(self.box._called(), timeout or 0.0, *so_far)
        finally:  # whoever goes on with the streams himself finds them as they were
            self._block(True)
        self.box.wait()
        self.result = self._finish(1), self._finish(2)
        return self.result

    def _block(self, blocking: bool) -> None:
        for fd in self.outputs:
            if fd >= 0:
                os.set_blocking(fd, blocking)

    def _finish(self, which: int) -> Any:
        stream: Any = self.box.stdout if which == 1 else self.box.stderr
        if stream is None:
            return None
        if stream.closed:
            return "" if self.box._spec.text else b""
        data = self.supervisor.output(which) or b""
        with stream:
            if self.box._spec.text:
                return _read_through(stream, data)
            os.set_blocking(stream.fileno(), False)  # another's copy of the write end may be open
            return stream.peek() + data


def _fileno(stream: Any) -> int:
    fd: int = -1 if stream is None or stream.closed else stream.fileno()
    return fd


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
