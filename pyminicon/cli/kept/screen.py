"""``exec -t``: a terminal of the command's own, between the caller's and it."""

from __future__ import annotations

import os

from pyminicon.cli.kept.attaching import Watch, keys_of
from pyminicon.cli.kept.far import Far
from pyminicon.cli.relay import read_some
from pyminicon.cli.tty import Guard, _Session
from pyminicon.detached import asking
from pyminicon.errors import SpecError
from pyminicon.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.detached.line import Line


class _Left(Exception):
    """The keys were typed."""


class _Leaving(_Session):
    """One that the keys let go of."""

    def __init__(self, far: Far, terminal: Terminal, guard: Guard | None, keys: bytes) -> None:
        super().__init__(far, terminal, guard)  # type: ignore[arg-type]
        self._watch = Watch(keys)

    def _typed(self) -> None:
        data = read_some(0)
        if not data:  # hung up
            self.poll.unregister(0)
            return
        passed = self._watch.passed(data)
        if passed is None:
            raise _Left
        self.unsent += passed
        self._send()


def run_in_terminal(to: Line, question: dict[str, Any], given: dict[str, Any]) -> int:
    """Runs what ``question`` asks for until it ends; the exit status."""
    typed = bool(given.get("interactive"))
    keys = keys_of(given)
    if typed and not os.isatty(0):
        raise SpecError("--tty", "the input device is not a TTY")
    guard = Guard(0) if typed else None
    try:
        # One that has a name inside, where there can be such a one.
        outer, inner = to.take_fds() if asking.ask(to, {"do": "terminal"}) else (-1, -1)
        with Terminal((outer, inner) if outer >= 0 else None) as terminal:
            question["streams"] = [None] * 3
            question["options"]["tty"] = True
            far = Far(to, question, [terminal.inner] * 3)
            terminal.close_inner()
            try:
                _Leaving(far, terminal, guard, keys).serve()
            except _Left:  # it goes on, with its terminal, as long as it likes
                to.send({"do": "of command", "leave": True}, [terminal.fileno()])
                return 0
            return far.status()
    finally:
        if guard is not None:
            guard.end()
