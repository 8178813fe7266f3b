"""A command that is waited for in somebody else's container: fed, read and ended as the core does it in its own."""

from __future__ import annotations

import os
import select
import time

from pyminicon import _core, patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Going(Protocol):
        """A command that runs."""

        @property
        def pidfd(self) -> int: ...
        def take_stream(self, which: int) -> int: ...
        def poll(self) -> tuple[int | None, str | None] | None: ...
        def kill(self) -> bool: ...
        def end(self) -> bool: ...
        def usage(self) -> tuple[Any, ...]: ...
        def release(self) -> None: ...


class Conversation:
    """``trim``: bytes that are kept of each stream. ``relayed``: what it wrote comes also after its end."""

    def __init__(self, command: Going, input: bytes | None, trim: int | None, relayed: bool) -> None:
        self.command = command
        self.timed_out: bool = False
        self.exchange: _core.Exchange = _core.Exchange(input or b"", trim, trim is not None)
        self._relayed = relayed
        self._poll = select.poll()
        self._input = command.take_stream(0)
        self.piped: set[int] = set()
        self._outputs: dict[int, int] = {}
        for which in (1, 2):
            fd = command.take_stream(which)
            if fd >= 0:
                os.set_blocking(fd, False)
                self._outputs[fd] = which
                self.piped.add(which)
                self._poll.register(fd, select.POLLIN)
        if self._input >= 0:
            os.set_blocking(self._input, False)
            self._poll.register(self._input, select.POLLOUT)

    def go_on(self, deadline: float | None, cancel_fd: int) -> tuple[int | None, str | None]:
        """Until its end, or that which the deadline brings about."""
        self._poll.register(self.command.pidfd, select.POLLIN)
        if cancel_fd >= 0:
            self._poll.register(cancel_fd, select.POLLIN)
        ended = None
        try:
            while ended is None or (self._relayed and self._outputs):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0 and ended is None:
                    self._give_up()
                    break
                for fd, _ in self._poll.poll(patience.poll_ms(left)):
                    if fd == cancel_fd:
                        self._give_up()
                        deadline = None
                        self._poll.unregister(fd)
                    self._serve(fd)
                ended = self.command.poll() if ended is None else ended
                if ended is not None and self._relayed:
                    self._forget_command()
            for fd, which in self._outputs.items():
                self.exchange.drain(which, fd)
            return self.command.poll() or (-9, None)
        finally:
            for fd in (self._input, *self._outputs):
                if fd >= 0:
                    os.close(fd)

    def _forget_command(self) -> None:
        try:
            self._poll.unregister(self.command.pidfd)
        except KeyError:
            pass

    def _give_up(self) -> None:
        self.timed_out = True
        self.command.end()

    def _serve(self, fd: int) -> None:
        if fd == self._input:
            if not self.exchange.feed(fd):
                self._close(fd)
                self._input = -1
        elif fd in self._outputs and not self.exchange.read(self._outputs[fd], fd):
            self._close(fd)
            del self._outputs[fd]

    def _close(self, fd: int) -> None:
        self._poll.unregister(fd)
        os.close(fd)
