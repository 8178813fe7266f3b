"""``logs``: what a container has written, and with ``-f`` what it writes until its end."""

from __future__ import annotations

import time

from pyminicon.cli.relay import write_all
from pyminicon.detached import asking, log, place
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyminicon.detached.line import Line
    from pyminicon.detached.log import Record

_LATEST = 1e12  # seconds since the epoch


def logs(given: dict[str, Any], rest: list[str]) -> int:
    """See the verb's help."""
    if len(rest) > 1:
        raise SpecError("logs", f"takes one container, not {rest[1]!r} as well")
    since = _since(given["since"]) if "since" in given else None
    tail = _tail(given.get("tail", "all"))
    directory = place.find(rest[0])
    to = None
    if given.get("follow"):
        try:
            to = asking.connect(directory)
        except asking.NotRunning:
            pass
    shown = _Shown(bool(given.get("timestamps")), since)
    reader = log.Reader(directory)
    try:
        seen = _more(to, -1)
        shown.show(_last(reader.records(), tail, since))
        while seen is not None:
            seen = _more(to, seen)
            shown.show(reader.records())
    finally:
        reader.close()
    return 0


def _more(to: Line | None, seen: int) -> int | None:
    """How much has been written, once that is more than ``seen``; None once there will be no more."""
    if to is None:
        return None
    try:
        told = asking.ask(to, {"do": "follow", "seen": seen})
    except ConnectionResetError:
        return None
    return told if isinstance(told, int) else None


def _since(word: str) -> float:
    try:
        when = _moment(word)
    except ValueError:
        when = -1.0
    if word.startswith("-") or not 0 <= when < _LATEST:  # nan and inf are floats as well
        raise SpecError("--since", f"takes 10m, 1700000000 or 2026-01-02T03:04:05Z, not {word!r}")
    return when


def _moment(word: str) -> float:
    """Raises ValueError."""
    from pyminicon.cli.call import seconds

    text = word.rstrip("Z")
    if "T" in text:
        whole, _, fraction = text.partition(".")
        return log.seconds(whole) + float(f"0.{fraction or 0}")
    plain = text.isascii() and text.replace(".", "", 1).isdigit()
    return float(text) if plain else time.time() - seconds("--since", word)


def _tail(word: str) -> int | None:
    if word == "all":
        return None
    if not (word.isascii() and word.isdigit()):
        raise SpecError("--tail", f"takes a number of lines, or all, not {word!r}")
    return int(word)


def _last(records: Iterable[Record], most: int | None, since: float | None) -> Iterable[Record]:
    """The last ``most`` lines of those that there are; a line may have come in several pieces."""
    if most is None:
        return records
    kept: list[list[Record]] = []
    going: dict[int, list[Record]] = {}
    for record in records:
        if since is not None and record[0] < since:
            continue
        line = going.pop(record[1], None)
        if line is None:
            kept.append(line := [])
        line.append(record)
        if not record[2].endswith(b"\n"):
            going[record[1]] = line
        if len(kept) > most:
            del kept[: len(kept) - most]
    return [record for line in kept for record in line]


class _Shown:
    def __init__(self, timestamps: bool, since: float | None) -> None:
        self._timestamps = timestamps
        self._since = since
        self._begun = {1: True, 2: True}  # whether a line begins

    def show(self, records: Iterable[Record]) -> None:
        """To stdout and stderr, as they came."""
        waiting: list[bytes] = []
        to = 1
        for when, which, text in records:
            if self._since is not None and when < self._since:
                continue
            if which != to or len(waiting) > 1000:
                write_all(to, b"".join(waiting))
                waiting, to = [], which
            if self._timestamps and self._begun[which]:
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))
                waiting.append(f"{stamp}.{int(when % 1 * 1e6):06d}Z ".encode())
            self._begun[which] = text.endswith(b"\n")
            waiting.append(text)
        write_all(to, b"".join(waiting))
