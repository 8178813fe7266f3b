"""``attach``: what a container writes on this terminal, and what is typed here for it, until one of them ends."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select

from pyminicon import patience
from pyminicon.cli.relay import read_some, write_all
from pyminicon.detached import asking, place
from pyminicon.errors import SpecError
from pyminicon.terminal import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.detached.line import Line

_KEYS = b"\x10\x11"  # ctrl-p,ctrl-q
_WINCH = 28
_PASSED_ON = (1, 2, 3, 10, 12, 15)


def attach(given: dict[str, Any], rest: list[str]) -> int:
    """The container's exit status, or 0 once the keys have let go of it."""
    if len(rest) != 1:
        raise SpecError("attach", f"takes one container, not {len(rest)}")
    keys = keys_of(given)
    to = asking.connect(place.find(rest[0]))
    about = asking.ask(to, {"do": "attach"})
    typed = about["stdin"] and not given.get("no-stdin")
    guard = None
    if about["tty"] and typed:
        if not os.isatty(0):
            raise SpecError("attach", "the input device is not a TTY; --no-stdin only looks")
        from pyminicon.cli.tty import Guard

        guard = Guard(0)
    try:
        session = _Session(to, keys if about["tty"] else b"", typed)
        if given.get("sig-proxy", True):
            session.mind_signals()
        if about["tty"]:
            session.follow_size()
            _signal.signal(_WINCH, lambda *_: session.follow_size())
        if guard is not None:
            guard.make_raw()
        return session.serve()
    finally:
        if guard is not None:
            guard.end()


def keys_of(given: dict[str, Any]) -> bytes:
    """``ctrl-a,b``, docker's way to write them."""
    if "detach-keys" not in given:
        return _KEYS
    words, keys = given["detach-keys"], []
    for word in words.split(","):
        control, _, key = word.rpartition("-") if len(word) > 1 else ("", "", word)
        letter = key.lower() if key.isascii() else ""
        if control == "ctrl" and len(letter) == 1 and letter in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            keys.append(ord(letter.upper()) & 0x1F)
        elif not control and len(key) == 1 and key.isascii():
            keys.append(ord(key))
        else:
            raise SpecError("--detach-keys", f"takes keys as ctrl-p,ctrl-q, not {words!r}")
    return bytes(keys)


class Watch:
    """For the keys, in what is typed."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._pressed = b""  # the beginning of them, kept back until more is known

    def passed(self, data: bytes) -> bytes | None:
        """What goes on; None once they were typed."""
        data = self._pressed + data
        self._pressed = b""
        if self._keys and self._keys in data:
            return None
        for size in range(len(self._keys) - 1, 0, -1):
            if data.endswith(self._keys[:size]):
                data, self._pressed = data[:-size], data[-size:]
                break
        return data


class _Session:
    def __init__(self, to: Line, keys: bytes, typed: bool) -> None:
        self._line = to
        self._watch = Watch(keys)
        self._typed = typed

    def mind_signals(self) -> None:
        """What we are sent is meant for the container."""
        for number in _PASSED_ON:
            if _signal.getsignal(number) not in (_signal.SIG_IGN, None):
                _signal.signal(number, lambda number, _: self._say({"do": "pass on", "signal": number}))

    def follow_size(self) -> None:
        for fd in (0, 1, 2):
            try:
                size = size_of(fd)
            except OSError:
                continue
            if all(size):
                self._say({"do": "resize", "size": size})
            return

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._line.send(message)
        except OSError:  # it has just ended
            pass

    def serve(self) -> int:
        """Until the end, or the keys."""
        poll = select.poll()
        poll.register(self._line.fileno(), select.POLLIN)
        if self._typed:
            poll.register(0, select.POLLIN)
        while True:
            for fd, _ in poll.poll(patience.poll_ms(None)):
                if fd == 0:
                    data = read_some(0)
                    if not data:
                        poll.unregister(0)
                    elif self._is_over(data):
                        return 0
                    continue
                messages = self._line.arrived()
                if messages is None:
                    return 128 + 9  # its keeper was killed
                for message in messages:
                    if "out" in message:
                        write_all(*message["out"])
                    elif "end" in message:
                        code: int = message["end"]["returncode"]
                        return code if code >= 0 else 128 - code

    def _is_over(self, data: bytes) -> bool:
        """Passes on what was typed, up to the keys."""
        passed = self._watch.passed(data)
        if passed:
            self._say({"do": "typed", "data": passed})
        return passed is None
