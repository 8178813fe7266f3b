"""Signals that reach this command are meant for the container."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enums, which costs 2.8 ms

from pyminicon.container import hears

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.container import Container

_HUP, _INT, _QUIT, _USR1, _USR2, _ALRM, _TERM = 1, 2, 3, 10, 12, 14, 15
_FORWARDED = (_HUP, _INT, _QUIT, _USR1, _USR2, _ALRM, _TERM)
_PATIENCE = 1.0  # seconds that a launch may still take once a signal has come


class Stopped(BaseException):
    """A signal came while the launch hung (a volume that doesn't answer, say)."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Forwarder:
    """Sends what this process is sent to the container's pid 1.

    The container has a session of its own: of a Ctrl-C at the caller's terminal it hears only through us.
    As pid 1 its program isn't touched by a signal that it has no handler for (pid_namespaces(7)), but whoever
    presses Ctrl-C means it to end: then the container is ended, as the signal would have ended the
    program anywhere else. Whoever asks a second time by Ctrl-C gets that as well.

    Made before the launch, so that no signal is lost: what comes before ``attach`` waits for it, unless the
    launch hangs (:class:`Stopped`). ``stop_timeout``: seconds that it may take to end of a SIGTERM. ``ended_by``: the
    signal that the container was ended for, else 0.
    """

    def __init__(self, stop_timeout: str | None = None) -> None:
        self.patience: int = -1 if stop_timeout is None else int(stop_timeout)
        self.stopping: bool = False
        self.box: Container[Any] | None = None
        self.ended_by: int = 0
        self.interrupts: int = 0
        self.early: list[int] = []
        for number in _FORWARDED:
            # What we were told to ignore (nohup) stays ignored; None is a handler not of Python's.
            if _signal.getsignal(number) not in (_signal.SIG_IGN, None):
                _signal.signal(number, self._caught)

    def attach(self, box: Container[Any]) -> None:
        """From now on ``box`` is sent what comes, and what has come so far."""
        self.box = box
        if self.early:
            _signal.setitimer(_signal.ITIMER_REAL, 0)
            for number in self.early:
                self._forward(box, number)

    def _caught(self, number: int, frame: Any) -> None:
        if self.box is not None and number == _ALRM and self.stopping:
            self.ended_by = _TERM
            self.box.kill()
        elif self.box is not None:
            self._forward(self.box, number)
        elif not self.early:
            self.early.append(number)
            _signal.setitimer(_signal.ITIMER_REAL, _PATIENCE)
        elif number in (_ALRM, _INT):
            raise Stopped(self.early[0])
        else:
            self.early.append(number)

    def _forward(self, box: Container[Any], number: int) -> None:
        self.interrupts += number == _INT
        # Whoever sends SIGTERM wants an orderly end: the image says by which signal that comes.
        sent = box.stop_signal if number == _TERM else number
        if self.interrupts > 1 or not hears(box.pid, sent):
            self.ended_by = number
            box.kill()
        else:
            box.send_signal(sent)
            if number == _TERM and self.patience >= 0:
                self.stopping = True
                _signal.setitimer(_signal.ITIMER_REAL, self.patience or 0.001)
