"""How ``doctor`` ends: what works here, a sentence each, and the commands for what doesn't."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cli.doctor_rows import Row

# The limits that a plain user expects. Which others there are the table tells: a user's manager isn't given cpuset.
_EXPECTED = ("memory", "pids", "cpus")
# Words that a command begins with, where a remedy ends in one.
_PROGRAMS = frozenset("apt-get loginctl modprobe mount sysctl systemctl systemd-run usermod".split())


class Verdict:
    """One thing that people come for. ``row``: the first that stands in its way."""

    __slots__ = ("name", "row", "said", "works")

    def __init__(self, name: str, said: str, row: Row | None) -> None:
        self.name: str = name
        self.works: bool = row is None
        self.row: Row | None = row
        self.said: str = said

    def __str__(self) -> str:
        if self.row is None:
            return f"{self.name}: yes{', ' if self.said else ''}{self.said}"
        why = self.row.remedy or self.row.seen
        return f"{self.name}: {self.said or 'no'} ({self.row.name}: {self.row.seen}); {why}"


def verdicts(rows: list[Row]) -> list[Verdict]:
    """The last lines of the table."""
    by_name = {row.name: row for row in rows}
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    missing = [row for row in rows if row.needed and row.mark != "ok"]
    layer = by_name["writable layer"]
    users = [by_name[name] for name in ("user namespace", "user namespace with powers")]
    return [
        Verdict("containers", f"as {who}" if not missing else "no", next(iter(missing), None)),
        Verdict("writable images", "", layer if layer.mark != "ok" else None),
        _limits(by_name),
        Verdict("user namespaces", "", next((row for row in users if row.mark != "ok"), None)),
    ]


def _limits(rows: dict[str, Row]) -> Verdict:
    expected = [rows[f"limit: {name}"] for name in _EXPECTED]
    broken = next((row for row in expected if row.mark != "ok"), None)
    if broken is None:
        return Verdict("limits", expected[0].seen, None)
    working = [name for name, row in zip(_EXPECTED, expected, strict=True) if row.mark == "ok"]
    return Verdict("limits", f"only {' '.join(working)}" if working else "no", broken)


def commands(rows: list[Row], found: list[Verdict]) -> str:
    """A shell script: for whatever doesn't work the command that helps, as root where it doesn't say otherwise."""
    lines = []
    for one in found:
        if one.row is None:
            continue
        command = command_of(one.row.remedy)
        lines.append(f"# {one.name}: {one.row.name}: {one.row.seen}")
        lines.append(command or f"# no command helps: {one.row.remedy or 'the table says what was seen'}")
    ranges = next(row for row in rows if row.name == "ranges of ids")
    if ranges.mark != "ok" and (command := command_of(ranges.remedy)):
        lines += [f"# user namespaces of more than one id: {ranges.seen}", command]
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def command_of(remedy: str) -> str:
    """The command that a remedy is, or ends in: "why: sysctl user.max_user_namespaces=1000"."""
    for start in (remedy, remedy.rpartition(": ")[2]):
        if start.partition(" ")[0] in _PROGRAMS:
            return start
    return ""
