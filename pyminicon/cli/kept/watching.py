"""``top`` and ``stats``: what goes on in containers."""

from __future__ import annotations

import collections
import os
import sys
import time

from pyminicon.cli.kept import shapes
from pyminicon.detached import asking, place, state
from pyminicon.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_PERIOD = 1.0  # seconds
_COURSE = 20  # looks that a sparkline shows
_LEVELS = ("▁▂▃▄▅▆▇█", "_.-=+*#@")  # the latter where a terminal's encoding lacks the former
_CLEAR = "\x1b[H\x1b[J"
# living.processes.ProcessInfo's fields, in their order there.
_COMMAND, _CPU, _PID, _PPID, _RESIDENT, _STATE, _USER = range(7)


def top(given: dict[str, Any], rest: list[str]) -> int:
    """Once in a pipe; on a terminal until it is interrupted or the container ends."""
    directory = place.find(rest[0])
    heads = ("USER", "PID", "PPID", "STATE", "TIME", "RSS", "COMMAND")

    def screen() -> str:
        rows = [heads]
        for one in asking.once(directory, {"do": "processes"}):
            minutes, seconds = divmod(int(one[_CPU]), 60)
            rows.append(
                (
                    str(one[_USER]), str(one[_PID]), str(one[_PPID]), str(one[_STATE]),
                    f"{minutes:02d}:{seconds:02d}", _size(one[_RESIDENT]), shapes.printable(" ".join(one[_COMMAND])),
                )
            )  # fmt: skip
        return shapes.table(rows)

    return _again_and_again(screen, sys.stdout.isatty())


def stats(given: dict[str, Any], names: list[str]) -> int:
    """Likewise; all that run where none is named."""
    if names:
        directories = [place.find(name) for name in names]
    else:
        directories = [
            directory for directory, fields in state.every() if fields["status"] in ("running", "paused")
        ]
    seen = {directory: _Seen() for directory in directories}
    form = given.get("format", "table")
    lives = sys.stdout.isatty() and not given.get("no-stream")

    def screen() -> str:
        told = []
        for directory in directories:
            try:
                told.append((_figures(directory, seen[directory]), seen[directory]))
            except Error:
                if len(directories) == 1:
                    raise
        if form != "table":
            template = "{{json .}}" if form == "json" else form
            return "".join(f"{shapes.line(template, one)}\n" for one, _ in told)
        columns = ("ID", "Name", "CPUPerc", "MemUsage", "BlockIO", "PIDs")
        heads = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE", "BLOCK I/O", "PIDS")
        rows = [heads, *(tuple(one[name] for name in columns) for one, _ in told)]
        if lives:
            drawn = [(f"CPU, {_COURSE} S", f"MEM, {_COURSE} S")]
            drawn += [(sparkline(one.shares, 1.0), sparkline(one.sizes)) for _, one in told]
            rows = [(*row, *more) for row, more in zip(rows, drawn, strict=True)]
        return shapes.table(rows)

    if not lives:
        for directory in directories:  # a share is of a time that has passed
            _figures(directory, seen[directory])
        time.sleep(0.1)
    return _again_and_again(screen, lives)


class _Seen:
    """What was seen of a container before."""

    def __init__(self) -> None:
        self.last: tuple[float, float] | None = None  # seconds since its start, CPU seconds
        self.shares: collections.deque[float | None] = collections.deque(maxlen=_COURSE)
        self.sizes: collections.deque[float | None] = collections.deque(maxlen=_COURSE)


def sparkline(values: Iterable[float | None], full: float = 0.0) -> str:
    """A column each, as high as it is to the highest of them, or to ``full`` if that is more. What isn't known is a gap."""
    drawn = [*values]
    top = max((value for value in drawn if value is not None), default=0.0)
    top = max(top, full) or 1.0
    levels = _LEVELS[0]
    try:
        levels.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        levels = _LEVELS[1]
    last = len(levels) - 1
    return "".join(" " if value is None else levels[round(value / top * last)] for value in drawn)


def _figures(directory: str, seen: _Seen) -> dict[str, str]:
    fields = state.read(directory)
    if fields is None:
        raise place.NoSuchContainer(f"no such container: {os.path.basename(directory)}")
    wall, user, system, _, _, read, written, memory, pids = asking.once(directory, {"do": "stats"})
    if memory is None:  # without a cgroup: what its processes have
        found = asking.once(directory, {"do": "processes"})
        memory, pids = sum(one[_RESIDENT] for one in found), len(found)
        user, system = sum(one[_CPU] for one in found), 0.0
    used = (user or 0.0) + (system or 0.0)
    then, seen.last = seen.last, (wall, used)
    spent = wall - then[0] if then else 0.0
    share = max(used - then[1], 0.0) / spent if then and spent > 0 else None
    seen.shares.append(share)
    seen.sizes.append(memory)
    return {
        "ID": fields["id"],
        "Name": fields["name"],
        "CPUPerc": "--" if share is None else f"{share:.2%}",
        "MemUsage": _size(memory),
        "BlockIO": f"{_size(read)} / {_size(written)}",
        "PIDs": "--" if pids is None else str(pids),
    }


def _size(size: int | None) -> str:
    if size is None:
        return "--"
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.4g}{unit}"


def _again_and_again(screen: Any, lives: bool) -> int:
    if not lives:
        sys.stdout.write(screen())
        return 0
    while True:
        try:
            sys.stdout.write(_CLEAR + screen())
            sys.stdout.flush()
            time.sleep(_PERIOD)
        except asking.NotRunning:
            return 0
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            return 0
