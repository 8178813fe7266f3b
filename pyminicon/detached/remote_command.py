"""A command in a container that another process keeps, as the core's Handle of one is known: asked of the keeper."""

from __future__ import annotations

import _thread
import _weakref
import os
import select
import time

from pyminicon import _core, errors, patience
from pyminicon.detached import asking, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BOTH = 2  # shutdown(2), SHUT_RDWR
NO_USAGE = (0.0, None, None, None, None, None, None, None, None)


class Far:
    """What a handle of a container and of a command have in common."""

    trace: list[tuple[str, int]] | None = None
    id: str
    let_go: bool = False  # of a container: nothing goes on that was begun through it

    def __init__(self) -> None:
        self._pid = os.getpid()
        #: Of a container: what was begun through it, by its id().
        self.commands: dict[int, _weakref.ref[Command]] = {}

    @property
    def owned(self) -> bool:
        """False in a process that was forked from the one that made it."""
        return self._pid == os.getpid()


class Command(Far):
    """A command that runs at the other end of ``to``; ``pidfd`` is readable when it has ended."""

    def __init__(self, container: Far, to: line.Line, about: dict[str, Any]) -> None:
        super().__init__()
        self._container = container
        self._line = to
        fds = iter(to.take_fds())
        self._streams = [next(fds) if ours else -1 for ours in about["streams"]]
        self.id: str = about["id"]
        self.pid: int = about["pid"]
        self.host_pid: int | None = about["host_pid"]
        self.startup: float = about["startup"]
        self._begun = time.monotonic()
        self._end: dict[str, Any] | None = None
        self._hearing = _thread.RLock()
        container.commands[id(self)] = _weakref.ref(self)
        if container.let_go:
            self.kill()

    @property
    def pidfd(self) -> int:
        return self._line.fileno()

    @property
    def takes_commands(self) -> bool:
        return False

    def take_stream(self, which: int) -> int:
        fd, self._streams[which] = self._streams[which], -1
        return fd

    def _say(self, **words: Any) -> bool:
        try:
            self._line.send({"do": "of command", **words})
        except OSError:
            return False
        return True

    def send_signal(self, number: int) -> bool:
        return self._end is None and self._say(signal=number)

    def kill(self) -> bool:
        return self._end is None and self._say(kill=True)

    def _hear(self) -> dict[str, Any] | None:
        """The next message; its end where the keeper has gone. The line stays readable after that, so that all who
        wait see it."""
        message: dict[str, Any] | None = self._line.receive()
        if message is None:
            message = {"end": {"returncode": -9, "limit": None, "usage": None}}
        if "end" in message:
            self._finish(message["end"])
        return message

    def _finish(self, end: dict[str, Any]) -> None:
        self._end = end
        try:
            self._line.sock.shutdown(_BOTH)
        except OSError:  # the keeper has done so
            pass

    def poll(self) -> tuple[int | None, str | None] | None:
        with self._hearing:
            if self._end is None and patience.is_readable(self._line.fileno(), 0.0):
                self._hear()
        return None if self._end is None else (self._end["returncode"], self._end["limit"])

    def over(self) -> bool:
        return self.poll() is not None

    def wait(self, timeout: float | None) -> bool:
        if self._end is not None:
            return True
        return patience.is_readable(self._line.fileno(), timeout)

    def usage(self) -> tuple[Any, ...]:
        with self._hearing:
            if self._end is None and self._say(usage=True):
                while self._end is None:
                    message = self._hear()
                    if message is not None and "usage" in message:
                        return tuple(message["usage"])
        assert self._end is not None
        return self._end["usage"] or (time.monotonic() - self._begun, *NO_USAGE[1:])

    def end(self) -> bool:
        """Kills it, and waits until all that has come of it is gone; False where the keeper doesn't say so."""
        supervisor = _core.Supervisor(self)
        supervisor.kill()
        supervisor.go_on(None)
        return supervisor.gone

    def give_up(self) -> None:
        """Its keeper kills it as soon as it sees the line closed."""
        with self._hearing:
            if self._end is None:
                self._finish({"returncode": -9, "limit": None, "usage": None})

    def hopeless(self, killed_for: float) -> bool:
        return killed_for >= asking.PATIENCE

    def release(self) -> None:
        for which in range(3):
            fd = self.take_stream(which)
            if fd >= 0:
                os.close(fd)
        if self._end is not None:
            self._line.close()

    def __del__(self) -> None:
        line = getattr(self, "_line", None)
        if line is not None and self.owned:
            self._container.commands.pop(id(self), None)
            line.close()


class Begun:
    """A command that was asked for: ``fd`` is readable when there is news."""

    def __init__(self, container: Far, to: line.Line) -> None:
        self._container = container
        self.line: line.Line = to
        self._handed_over = False

    @property
    def fd(self) -> int:
        return self.line.fileno()

    def result(self) -> Command | None:
        """It, once it runs."""
        if not select.select([self.line.fileno()], [], [], 0)[0]:
            return None
        return self.wait()

    def wait(self) -> Command:
        """Likewise, however long that takes."""
        try:
            about = asking.answer(self.line)
        except ConnectionResetError:
            raise shut_down() from None
        self._handed_over = True
        return Command(self._container, self.line, about)

    def __del__(self) -> None:
        if not self._handed_over and self._container.owned:  # whoever polls it has stopped by now
            self.line.close()

    def given_up(self, within: float) -> Command | None:
        """It, which is to be ended. None where there isn't any, or no word of it in that time: what comes of it ends
        with its line."""
        line.set_patience(self.line.sock, within)
        try:
            about = asking.answer(self.line)
            line.set_patience(self.line.sock, 0)
        except (errors.Error, OSError):
            self.let_go()
            return None
        self._handed_over = True
        return Command(self._container, self.line, about)

    def let_go(self) -> None:
        self._handed_over = True
        self.line.close()


class Worker:
    """A process inside that works on files; it ends with its line."""

    def __init__(self, to: line.Line) -> None:
        self._line = to

    def kill(self) -> None:
        self._line.close()


def shut_down() -> errors.LaunchError:
    """What the core says of a container that takes no commands any more."""
    import errno

    return errors.LaunchError(errno.ESHUTDOWN, "command")
