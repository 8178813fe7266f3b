"""What this machine offers for limits, line by line, for people: found by making a cgroup."""

from __future__ import annotations

import os

from pyminicon import cgroups
from pyminicon.cgroups import sweep as cgroup_sweep
from pyminicon.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: what a line is called, and the options that try it
_TRIALS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("memory", {"memory": "64M"}),
    ("cpus", {"cpus": 0.5}),
    ("cpuset", {"cpuset": ""}),
    ("pids", {"pids": 100}),
    ("io_weight", {"io_weight": 100}),
    ("cpu_time", {"need_cpu_time": True}),
    ('pid="host"', {"need_kill": True}),
)


class Line:
    """One limit: ``name``, ``where`` it is held (a directory, "" if nowhere), ``problem`` ("" if none)."""

    __slots__ = ("name", "problem", "where")

    def __init__(self, name: str, where: str, problem: str) -> None:
        self.name: str = name
        self.where: str = where
        self.problem: str = problem


def report(cgroup_parent: str | None = None) -> list[Line]:
    """Whether each kind of limit works for this process, and if not, why and what helps."""
    return [_try(name, dict(options), cgroup_parent) for name, options in _TRIALS]


def _try(name: str, options: dict[str, Any], parent: str | None) -> Line:
    if "cpuset" in options:
        options["cpuset"] = str(min(os.sched_getaffinity(0)))
    try:
        plan = cgroups.plan(cgroups.check(cgroup_parent=parent, **options))
    except Error as error:
        return Line(name, "", str(error))
    assert plan is not None  # a limit that must hold has a directory or an error
    where = os.fsdecode(plan[1][0][0])
    trial = f"{where}/{cgroup_sweep.owner()}-0"  # number 0 is never a container's
    try:
        os.mkdir(trial)
        os.rmdir(trial)
    except OSError as error:
        return Line(name, "", f"{where}: {error.strerror} ({plan[3].decode()})")
    return Line(name, where, "")
