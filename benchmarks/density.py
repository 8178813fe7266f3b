"""``density``: 1,000 sleeping containers from one Python process; what each costs."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Any

from . import report, rootfs
from .ground import own_memory_cgroup

# The parts of /proc/meminfo that a container can be charged with. Slab holds namespaces, mounts,
# superblocks and tasks; Shmem the pages of its tmpfs mounts; AnonPages the payload's stack.
PARTS = ("Slab", "SUnreclaim", "KernelStack", "PageTables", "Percpu", "Shmem", "AnonPages", "VmallocUsed")


def memory() -> dict[str, int]:
    """KiB by part, and MemAvailable."""
    found: dict[str, int] = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in PARTS or key == "MemAvailable":
            found[key] = int(value.split()[0])
    return found


def resident_kib(pid: int | str) -> int:
    """VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def descendants() -> int:
    """How many processes come from this one, however deep."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return len(found) - 1


def counts() -> dict[str, int]:
    """Processes that come from this one, its threads and its descriptors."""
    return {
        "processes": descendants(),
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def _settled() -> dict[str, int]:
    """What the kernel frees later (network namespaces, RCU callbacks) is given the time to go."""
    time.sleep(1.0)
    return {**memory(), "own_rss": resident_kib("self"), **counts()}


def measure(number: int, options: dict[str, Any]) -> dict[str, Any]:
    """Start ``number`` sleepers, look, end them, look again."""
    import pyminicon

    root = str(rootfs.minimal())
    pyminicon.run([rootfs.PROGRAM], image=root, **options)  # what is made once isn't each one's cost
    before = _settled()
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        alive = [
            stack.enter_context(pyminicon.start([rootfs.PROGRAM, "s"], image=root, **options))
            for _ in range(number)
        ]
        started = time.perf_counter() - start
        during = _settled()
        resident = [resident_kib(c.pid) for c in alive[:: max(number // 50, 1)]]
        ended = sum(c.poll() is not None for c in alive)
        start = time.perf_counter()
        for container in alive:
            container.kill()
        for container in alive:
            container.wait()
    stopped = time.perf_counter() - start
    after = _settled()
    per = {name: round((during[name] - before[name]) / number, 2) for name in during}
    return {
        "number": number,
        "ended_early": ended,
        "options": options,
        "start_seconds": round(started, 3),
        "stop_seconds": round(stopped, 3),
        "per_container_kib": {name: per[name] for name in (*PARTS, "own_rss")},
        "available_kib": round((before["MemAvailable"] - during["MemAvailable"]) / number, 2),
        "resident_kib": sum(resident) / len(resident),
        "processes_per_container": per["processes"],
        "extra_threads": during["threads"] - before["threads"],
        "descriptors_per_container": per["descriptors"],
        "left": {name: after[name] - before[name] for name in ("processes", "threads", "descriptors")},
    }


def show(rows: list[dict[str, Any]]) -> None:
    """One column a configuration."""
    names = ["start_seconds", "stop_seconds", "available_kib", "resident_kib", "processes_per_container"]
    names += ["extra_threads", "descriptors_per_container", "ended_early"]
    body: list[list[Any]] = [[name, *(row[name] for row in rows)] for name in names]
    for part in (*PARTS, "own_rss"):
        body.append([f"  KiB: {part}", *(r["per_container_kib"][part] for r in rows)])
    body += [[f"  left: {what}", *(r["left"][what] for r in rows)] for what in rows[0]["left"]]
    header = ("a container", *(str(row["options"] or "defaults") for row in rows))
    report.show(report.table(f"density ({rows[0]['number']} sleeping containers)", header, body))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``density``."""
    parser.add_argument("--number", type=int, default=0, help="how many (1,000; 50 with --quick)")


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    number = options.number or (50 if options.quick else 1000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with own_memory_cgroup():
        rows = [measure(number, {}), measure(number, {"read_only": True})]
    show(rows)
    return {"rows": rows}
