"""A command at the other end of a line, as what copies its streams knows a container."""

from __future__ import annotations

import os

from pyminicon.cli import say
from pyminicon.detached import asking
from pyminicon.detached.line import set_patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from pyminicon.detached.line import Line

_TIME_IS_UP = 124
_HUP, _INT, _QUIT, _USR1, _USR2, _TERM = 1, 2, 3, 10, 12, 15


class Far:
    """Begun by ``question``; ``fds`` are its streams as far as they are ours."""

    def __init__(self, to: Line, question: dict[str, Any], fds: list[int]) -> None:
        self.line: Line = to
        self.asked: int = 0
        self._early: list[int] | None = []  # signals that came before there was a command
        self._mind_signals()
        about = asking.ask(to, question, fds)
        early, self._early = self._early, None
        for number in early:
            self._caught(number, None)
        self.pidfd: int = to.fileno()
        came = iter(to.take_fds())
        ours = [next(came) if is_ours else -1 for is_ours in about["streams"]]
        files = [None if fd < 0 else os.fdopen(fd, "rb" if at else "wb", 0) for at, fd in enumerate(ours)]
        self.stdin: IO[bytes] | None
        self.stdout: IO[bytes] | None
        self.stderr: IO[bytes] | None
        self.stdin, self.stdout, self.stderr = files

    def _mind_signals(self) -> None:
        """What we are sent is meant for the command; whoever asks a second time by Ctrl-C ends all that has come of it."""
        import _signal  # type: ignore[import-not-found]

        for number in (_HUP, _INT, _QUIT, _USR1, _USR2, _TERM):
            if _signal.getsignal(number) not in (_signal.SIG_IGN, None):
                _signal.signal(number, self._caught)

    def _caught(self, number: int, frame: Any) -> None:
        if self._early is not None:
            self._early.append(number)
            return
        self.asked += number == _INT
        try:
            self.line.send({"do": "of command", **({"kill": True} if self.asked > 1 else {"signal": number})})
        except OSError:  # it has just ended
            pass

    def status(self) -> int:
        """Waits for the end; what it comes to in a shell."""
        # A second at a time: a signal that comes just before interrupts no receive, and would wait as long.
        set_patience(self.line.sock, 1)
        while True:
            try:
                message = self.line.receive()
            except BlockingIOError:
                continue
            if message is None:
                return 128 + 9  # its keeper was killed, and it ends with that
            if "error" in message:
                asking.raise_again(message["error"])
            if "end" in message:
                break
        end = message["end"]
        if end["limit"] in ("wall_time", "cpu_time"):
            return _TIME_IS_UP
        code = end["returncode"]
        if end["limit"] is not None:
            say(f"ended by its limit: {end['limit']}")
        return os.EX_OK if code is None else code if code >= 0 else 128 - code
