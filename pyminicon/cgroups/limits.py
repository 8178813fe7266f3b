"""Limits as they were asked for, checked and in the kernel's units, before anything is made."""

from __future__ import annotations

import os

from pyminicon import sizes
from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.errors import SpecError

# The kernel's smallest quota is 1 ms (min_cfs_quota_period) of the usual period of 100 ms.
LEAST_CPUS = 0.01

# PID_MAX_LIMIT of 64-bit kernels: pids.max takes no more.
MOST_PIDS = 4_194_304


class Limits:
    """What was asked for, checked and in the kernel's units. None is "not asked for"."""

    __slots__ = (
        "apart",
        "cpu_time",
        "cpu_weight",
        "cpus",
        "cpuset",
        "devices",
        "io_weight",
        "kill",
        "lives",
        "memory",
        "parent",
        "pids",
        "swap",
        "usage",
    )

    memory: int | None  # bytes
    swap: int | None  # bytes of swap on top of memory; -1 is no limit, None "not asked for": none is given
    cpus: float | None
    cpu_weight: int | None  # v2's scale
    cpuset: str | None  # in the kernel's list format, sorted: "0-1,3"
    pids: int | None
    io_weight: int | None  # v2's scale
    usage: bool
    parent: str | None
    kill: bool
    lives: bool  # each command has a cgroup of its own
    cpu_time: bool
    devices: bool
    apart: bool  # it might mount what the kernel shows of its cgroups, and write there: it shares none

    def required(self) -> set[str]:
        """The controllers without which a limit wouldn't hold."""
        asked = {
            "memory": self.memory,
            "cpu": self.cpus if self.cpus is not None else self.cpu_weight,
            "cpuset": self.cpuset,
            "pids": self.pids,
            "io": self.io_weight,
        }
        return {controller for controller, value in asked.items() if value is not None}


def check(
    *,
    memory: int | str | None = None,
    memory_swap: int | str | None = None,
    cpus: float | None = None,
    cpu_weight: int | None = None,
    cpuset: str | None = None,
    pids: int | None = None,
    io_weight: int | None = None,
    usage: bool = False,
    cgroup_parent: str | None = None,
    need_kill: bool = False,
    need_cpu_time: bool = False,
    need_devices: bool = False,
    lives: bool = False,
) -> Limits | None:
    """The options as :class:`Limits`, or None when no cgroup is needed.

    ``memory`` and ``memory_swap`` (bytes, or "64M"; memory_swap is memory and swap together, -1 or
    "-1" for no limit of swap), ``cpus`` (1.5 is one and a half), weights 1 to 10000 with 100 for
    normal, ``cpuset`` ("0-1,3"), ``pids`` (processes and threads). ``need_kill``: a cgroup to kill by;
    ``need_cpu_time``: one that tells the CPU time of the whole container; ``need_devices``: one that lets it
    open no device but the usual ones; ``lives``: of a container to live in.

    Raises :class:`SpecError` with the range of the option; nothing is made.
    """
    limits = Limits()
    limits.memory = None if memory is None else _check_memory(memory)
    limits.swap = _check_swap(memory_swap, limits.memory)
    limits.cpus = None if cpus is None else _check_cpus(cpus)
    limits.cpu_weight = _check_whole("cpu_weight", cpu_weight, 1, 10_000)
    limits.cpuset = None if cpuset is None else check_cpuset(cpuset)
    limits.pids = _check_whole("pids", pids, 1, MOST_PIDS)
    limits.io_weight = _check_whole("io_weight", io_weight, 1, 10_000)
    limits.parent = None if cgroup_parent is None else _check_parent(cgroup_parent)
    if not isinstance(usage, int) or usage not in (False, True):
        raise SpecError("usage", "takes True or False")
    limits.usage, limits.kill, limits.cpu_time = bool(usage), need_kill, need_cpu_time
    limits.devices, limits.lives = need_devices, lives
    limits.apart = True
    other = limits.usage or limits.kill or limits.cpu_time or limits.devices or limits.parent
    needed = limits.required() or other
    return limits if needed else None


def _check_memory(value: object) -> int:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = sizes.check("memory", value, 4096, machine, "this machine's memory")
    trees = cgroup_tree.trees()
    above = trees.memory_above(size)
    if above is not None:
        # Never reached: the cgroup above, with the caller in it, would run out first.
        sizes.check("memory", value, 4096, above, "the limit of the caller's own cgroup")
    return size


def _check_swap(value: object, memory: int | None) -> int | None:
    if value is None:
        return None
    if memory is None:
        raise SpecError("memory_swap", "is memory and swap together, and takes memory= beside it")
    if value == "-1" or (value == -1 and isinstance(value, int)):
        return -1
    return sizes.check("memory_swap", value, memory, sizes.LARGEST, 'or "-1" for no limit') - memory


def _check_whole(option: str, value: object, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SpecError(option, f"takes a whole number from {least} to {most}, not {sizes.shown(value)}")
    return value


def _check_cpus(value: object) -> float:
    most: float = os.sysconf("SC_NPROCESSORS_ONLN")
    tree = cgroup_tree.trees().v1.get("cpu")
    quota = cgroup_tree.cpu_limit(tree) if tree else None
    most = most if quota is None or quota > most else quota
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not LEAST_CPUS <= value <= most:
        raise SpecError("cpus", f"takes a number from {LEAST_CPUS} to {most:g}, not {sizes.shown(value)}")
    return float(value)


_LAST_CPU = 65535  # no kernel is built for more; without an end a word would be a list of a million


def parse_cpus(text: str) -> list[int] | None:
    """The numbers in a list such as "0-2,7", sorted, each once; None when it isn't one."""
    cpus: set[int] = set()
    for part in text.strip("\n").split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            return None
        if len(last) > 5 or int(first) > int(last) or int(last) > _LAST_CPU:
            return None
        cpus.update(range(int(first), int(last) + 1))
    return sorted(cpus)


def form_cpus(cpus: list[int]) -> str:
    """A sorted list of numbers in the kernel's list format: [0, 1, 3] is "0-1,3"."""
    ranges: list[list[int]] = []
    for cpu in cpus:
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)


def check_cpuset(value: object, allowed: str | None = None, why: str = "this machine's CPUs") -> str:
    """``value`` in the kernel's list format, if all its CPUs are in the list ``allowed`` (default: the
    machine's, online). Raises :class:`SpecError` with that list."""
    if allowed is None:
        count = os.sysconf("SC_NPROCESSORS_ONLN")
        allowed = cgroup_tree.read_or("/sys/devices/system/cpu/online", f"0-{count - 1}").strip()
    cpus = parse_cpus(value) if isinstance(value, str) else None
    if not cpus or not set(cpus) <= set(parse_cpus(allowed) or ()):
        raise SpecError(
            "cpuset", f'takes a list such as "0-1,3" out of {allowed} ({why}), not {sizes.shown(value)}'
        )
    return form_cpus(cpus)


def _check_parent(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value or len(value) > 4000:
        raise SpecError("cgroup_parent", f"takes the path of a cgroup, not {sizes.shown(value)}")
    return value
