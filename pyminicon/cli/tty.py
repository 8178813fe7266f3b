"""``run -t``: the caller's terminal on one side, the container's own on the other, and a loop between.

The caller's terminal is made raw, so that every key goes through and the container's terminal does what a
terminal does with it: echo, Ctrl-C, Ctrl-Z. It gets its modes back whatever happens; even when this
process is killed with SIGKILL: a guard, forked before anything else, outlives it for that.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select
import termios

from pyminicon import patience
from pyminicon.cli.relay import read_some, write_all
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from pyminicon.container import Container
    from pyminicon.terminal import Terminal

    Modes: TypeAlias = list[Any]  # as termios.tcgetattr has it

_PIECE = 65536
_CONT, _TSTP, _WINCH = 18, 20, 28


def run_in_terminal(
    args: list[str], wanted: dict[str, Any], given: dict[str, Any], forwarder: Callable[[], Any]
) -> tuple[Container[Any], int]:
    """Runs ``args`` in a terminal of the container's own until it ends. Returns the container and the signal that it was
    ended for, or 0. ``forwarder`` makes what passes signals on."""
    from pyminicon import calls

    typed = bool(given.get("interactive"))
    if typed and not os.isatty(0):
        raise SpecError("--tty", "the input device is not a TTY")
    wanted["tty"] = True
    wanted["trace"] = bool(given.get("trace"))
    guard = Guard(0) if typed else None
    try:
        forward = forwarder()
        box = calls.start(args, **wanted)
        try:
            if "cidfile" in given:
                from pyminicon.cli.report import write_id

                write_id(given["cidfile"], box)
            forward.attach(box)
            assert box.terminal is not None
            _Session(box, box.terminal, guard).serve()
            box.wait()
        except BaseException:
            box.close()
            raise
        box.close()
    finally:
        if guard is not None:
            guard.end()
    return box, forward.ended_by


class Guard:
    """Keeps a terminal's modes, and a process that gives them back when ours is gone.

    The guard has a session of its own: neither the terminal's signals nor its job control reach it. It
    changes nothing when the modes aren't ours any more: then somebody else has taken the terminal over.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.before: Modes = termios.tcgetattr(fd)
        self.raw: Modes = raw_modes(self.before)
        ours, self._line = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._line)
                self._watch(ours)
            finally:
                os._exit(0)
        os.close(ours)

    def _watch(self, line: int) -> None:
        os.setsid()
        for number in (1, 2, 3, 15):
            _signal.signal(number, _signal.SIG_IGN)
        for fd in (1, 2):  # a pipe that is read to its end mustn't wait for us
            if fd != self.fd:
                os.close(fd)
        if os.read(line, 1) == b"" and _same(termios.tcgetattr(self.fd), self.raw):
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self.before)

    def make_raw(self) -> None:
        termios.tcsetattr(self.fd, termios.TCSADRAIN, self.raw)

    def restore(self) -> None:
        # Not FLUSH: what has been typed ahead is for the next program.
        termios.tcsetattr(self.fd, termios.TCSADRAIN, self.before)

    def end(self) -> None:
        """Gives the modes back, whatever state the terminal is in, and lets the guard go."""
        try:
            self.restore()
        except termios.error:  # the terminal has gone
            pass
        try:
            os.write(self._line, b".")
        except BrokenPipeError:
            pass
        os.close(self._line)
        os.waitpid(self._pid, 0)


def _same(one: Modes, other: Modes) -> bool:
    return one[:6] == other[:6]


def raw_modes(modes: Modes) -> Modes:
    """``modes`` made raw, as cfmakeraw(3) does it."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, chars = modes
    iflag &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    chars = list(chars)
    chars[termios.VMIN], chars[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, chars]


class _Session:
    """The copying between the two terminals, until the container has ended."""

    def __init__(self, box: Container[Any], inner: Terminal, guard: Guard | None) -> None:
        self.box = box
        self.inner = inner
        self.guard = guard
        self.unsent = b""
        self.poll = select.poll()

    def serve(self) -> None:
        os.set_blocking(self.inner.fileno(), False)
        self._follow_size()
        _signal.signal(_WINCH, lambda number, frame: self._follow_size())
        if self.guard is not None:
            _signal.signal(_TSTP, self._stop)
            _signal.signal(_CONT, self._go_on)
            self.guard.make_raw()
            self.poll.register(0, select.POLLIN)
        self.poll.register(self.inner.fileno(), select.POLLIN)
        self.poll.register(self.box.pidfd, select.POLLIN)
        ended = False
        while not ended:
            for fd, events in self.poll.poll(patience.poll_ms(None)):
                if fd == 0:
                    self._typed()
                elif fd == self.box.pidfd:
                    ended = True
                else:
                    self._shown(events)
        while self._shown(select.POLLIN):  # what it wrote last
            pass

    def _typed(self) -> None:
        data = read_some(0)
        if not data:  # hung up
            self.poll.unregister(0)
            return
        self.unsent += data
        self._send()

    def _send(self) -> None:
        """A program that doesn't read must not keep us from showing what it writes."""
        try:
            self.unsent = self.unsent[self.inner.write(self.unsent) :]
        except BlockingIOError:
            pass
        events = select.POLLIN | (select.POLLOUT if self.unsent else 0)
        self.poll.modify(self.inner.fileno(), events)
        self.poll.modify(0, select.POLLIN if len(self.unsent) < _PIECE else 0)

    def _shown(self, events: int) -> bool:
        if events & select.POLLOUT:
            self._send()
        if not events & (select.POLLIN | select.POLLHUP):
            return False
        try:
            data = self.inner.read(_PIECE)
        except BlockingIOError:
            return False
        if not data:
            self._unplug()
            return False
        try:
            write_all(1, data)
        except OSError:  # our terminal has gone, and SIGHUP with it: whoever ignores that goes on unseen
            self._unplug()
            return False
        return True

    def _unplug(self) -> None:
        # Every descriptor of the inner side is closed; the program may go on without.
        for fd in (self.inner.fileno(), 0):
            try:
                self.poll.unregister(fd)
            except KeyError:
                pass

    def _follow_size(self) -> None:
        from pyminicon.terminal import size_of

        for fd in (0, 1, 2):
            try:
                rows, columns = size_of(fd)
            except OSError:
                continue
            if rows and columns:
                self.inner.resize(rows, columns)
            return

    def _stop(self, number: int, frame: Any) -> None:
        """Somebody stops this process (Ctrl-Z itself goes inside): meanwhile the modes are the shell's."""
        assert self.guard is not None
        self.guard.restore()
        os.kill(os.getpid(), 19)  # SIGSTOP: SIGTSTP's default, without a moment in which it isn't caught

    def _go_on(self, number: int, frame: Any) -> None:
        assert self.guard is not None
        try:
            if os.tcgetpgrp(0) == os.getpgrp():
                self.guard.make_raw()
                self._follow_size()
        except (OSError, termios.error):  # a terminal that goes away sends SIGCONT behind its SIGHUP
            pass
