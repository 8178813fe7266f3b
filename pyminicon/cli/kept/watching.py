"""``top`` and ``stats``: what goes on in containers."""

from __future__ import annotations

import os
import sys
import time

from pyminicon.cli.kept import shapes
from pyminicon.detached import asking, place, state
from pyminicon.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PERIOD = 1.0  # seconds
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
    before: dict[str, tuple[float, float]] = {}
    form = given.get("format", "table")

    def screen() -> str:
        told = []
        for directory in directories:
            try:
                told.append(_figures(directory, before))
            except Error:
                if len(directories) == 1:
                    raise
        if form != "table":
            template = "{{json .}}" if form == "json" else form
            return "".join(f"{shapes.line(template, one)}\n" for one in told)
        columns = ("ID", "Name", "CPUPerc", "MemUsage", "BlockIO", "PIDs")
        heads = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE", "BLOCK I/O", "PIDS")
        return shapes.table([heads, *(tuple(one[name] for name in columns) for one in told)])

    if not before and (given.get("no-stream") or not sys.stdout.isatty()):
        for directory in directories:  # a share is of a time that has passed
            _figures(directory, before)
        time.sleep(0.1)
    return _again_and_again(screen, sys.stdout.isatty() and not given.get("no-stream"))


def _figures(directory: str, before: dict[str, tuple[float, float]]) -> dict[str, str]:
    fields = state.read(directory)
    if fields is None:
        raise place.NoSuchContainer(f"no such container: {os.path.basename(directory)}")
    wall, user, system, _, _, read, written, memory, pids = asking.once(directory, {"do": "stats"})
    if memory is None:  # without a cgroup: what its processes have
        found = asking.once(directory, {"do": "processes"})
        memory, pids = sum(one[_RESIDENT] for one in found), len(found)
        user, system = sum(one[_CPU] for one in found), 0.0
    used = (user or 0.0) + (system or 0.0)
    then = before.get(directory)
    before[directory] = (wall, used)
    spent = wall - then[0] if then else 0.0
    share = f"{max(used - then[1], 0.0) / spent:.2%}" if then and spent > 0 else "--"
    return {
        "ID": fields["id"],
        "Name": fields["name"],
        "CPUPerc": share,
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
