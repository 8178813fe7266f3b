"""What is written where: limits as the files of cgroup v2 and of v1.

Every function gives a list of (file, value, whether the file may be missing).
"""

from __future__ import annotations

import errno
import os

from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyminicon.cgroups.limits import Limits
    from pyminicon.cgroups.tree import Tree

_PERIOD = 100_000  # microseconds; the kernel's default for a fresh cgroup


def refuse(error: int, subject: str, hint: str) -> NoReturn:
    """Raise the :class:`LaunchError` for a limit that can't be applied here."""
    raise LaunchError(error, "cgroup", subject, hint)


def limit_files(limits: Limits, controller: str, tree: Tree, parent: str) -> list[tuple[str, str, bool]]:
    """The writes for the limits of one controller in a child of ``parent``."""
    return _files_v2(limits, controller, tree) if tree.v2 else _files_v1(limits, controller, parent)


def _files_v2(limits: Limits, controller: str, tree: Tree) -> list[tuple[str, str, bool]]:
    if controller == "memory":
        swap = "max" if limits.swap == -1 else str(limits.swap or 0)
        # Kernels without swap accounting lack the file; without swap that makes no difference.
        missing_is_fine = limits.swap is None and not _has_swap()
        return [("memory.swap.max", swap, missing_is_fine), ("memory.max", str(limits.memory), False)]
    if controller == "cpu":
        files = []
        if limits.cpus is not None:
            files.append(("cpu.max", f"{_quota(limits.cpus)} {_PERIOD}", False))
        if limits.cpu_weight is not None:
            files.append(("cpu.weight", str(limits.cpu_weight), False))
        return files
    if controller == "cpuset":
        return [("cpuset.cpus", str(limits.cpuset), False)]
    if controller == "pids":
        return [("pids.max", str(limits.pids), False)]
    # io.weight is blk-iocost's, io.bfq.weight the bfq scheduler's: one of them at least must be.
    return [_io_file(limits, ("io.weight", "io.bfq.weight"), f"{tree.mount}/io.cost.qos")]


def _files_v1(limits: Limits, controller: str, parent: str) -> list[tuple[str, str, bool]]:
    if controller == "memory":
        return _memory_v1(limits, parent)
    if controller == "cpu":
        files = []
        if limits.cpus is not None:
            files.append(("cpu.cfs_quota_us", str(_quota(limits.cpus)), False))
        if limits.cpu_weight is not None:
            files.append(("cpu.shares", str(cpu_shares(limits.cpu_weight)), False))
        return files
    if controller == "cpuset":
        # A fresh v1 cpuset has neither CPUs nor memory nodes and refuses its first task (ENOSPC).
        mems = cgroup_tree.read_or(f"{parent}/cpuset.mems", "").strip()
        return [("cpuset.mems", mems, False), ("cpuset.cpus", str(limits.cpuset), False)]
    if controller == "pids":
        return [("pids.max", str(limits.pids), False)]
    return [_io_file(limits, ("blkio.weight", "blkio.bfq.weight"))]


_SOCKETS = "memory.kmem.tcp.limit_in_bytes"  # gone where the kernel has given it up


def _memory_v1(limits: Limits, parent: str) -> list[tuple[str, str, bool]]:
    assert limits.memory is not None
    # memsw counts memory and swap together and is never less than the memory limit: that comes first.
    files = [("memory.limit_in_bytes", str(limits.memory), False)]
    # What waits in the queues of TCP and UDP sockets v1 counts apart, and only where it has a limit.
    if os.path.exists(f"{parent}/{_SOCKETS}"):
        files.append((_SOCKETS, str(limits.memory), False))
    if os.path.exists(f"{parent}/memory.memsw.limit_in_bytes"):
        both = -1 if limits.swap == -1 else limits.memory + (limits.swap or 0)
        return [*files, ("memory.memsw.limit_in_bytes", str(both), False)]
    if limits.swap is None:
        return [*files, ("memory.swappiness", "0", not _has_swap())]  # nothing of it is swapped out
    if limits.swap >= 0:
        refuse(
            errno.EOPNOTSUPP,
            f"{parent}/memory.memsw.limit_in_bytes",
            "this kernel doesn't count swap (swapaccount=1)",
        )
    return files


def _io_file(limits: Limits, names: tuple[str, str], iocost: str = "") -> tuple[str, str, bool]:
    """The write for io_weight. It has an effect only where a scheduler looks at it."""
    if iocost and "enable=1" in cgroup_tree.read_or(iocost, ""):
        return names[0], str(limits.io_weight), False
    if any("[bfq]" in schedule for schedule in _schedulers()):
        return names[1], str(bfq_weight(limits.io_weight or 100)), False
    refuse(
        errno.EOPNOTSUPP,
        names[1],
        "no block device heeds io weights: echo bfq >/sys/block/DEVICE/queue/scheduler",
    )


def _schedulers() -> list[str]:
    try:
        devices = os.listdir("/sys/block")
    except OSError:
        return []
    return [cgroup_tree.read_or(f"/sys/block/{device}/queue/scheduler", "") for device in devices]


def _has_swap() -> bool:
    return cgroup_tree.read_or("/proc/swaps", "").count("\n") > 1


def _quota(cpus: float) -> int:
    """Microseconds of CPU in each period of 100 ms."""
    return round(cpus * _PERIOD)


def cpu_shares(weight: int) -> int:
    """v1's cpu.shares (1024 is normal) for a v2 weight (100 is normal), as the scheduler itself
    converts (sched_weight_from_cgroup): proportional, so that normal stays normal."""
    return max(2, (weight * 1024 + 50) // 100)


def bfq_weight(weight: int) -> int:
    """bfq's weight (1 to 1000, 100 is normal) for a v2 weight (1 to 10000, 100 is normal): the
    same up to normal, and from there 900 steps for 9900."""
    return weight if weight <= 100 else 100 + (weight - 100) * 900 // 9900
