"""``cluster``: jobs per second through Dask's and Ray's adapters, beside the same loops in as many plain processes.

In turns of a window each, on one machine, a process a processor. Both sides keep a template and capture output; all
have run some jobs before the first window.

And what is left of a worker that is killed in the middle of a job: how soon its container is gone, and its cgroups. No
other job follows, so nothing that somebody else begins there helps.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pyminicon

from . import report, rootfs

BUDGET = 30.0  # seconds a side, then no other window is begun
LEAST_WINDOWS = 5
STOCK = 2  # as the adapters have it
KILLED = 5  # workers of each side
Map = Callable[..., Iterable[Any]]

_template: pyminicon.Template | None = None


def _loop(root: str, number: int) -> int:
    """One plain process's part."""
    global _template
    if _template is None:
        _template = pyminicon.Template(image=root, stock=STOCK)
    for _ in range(number):
        if _template.run([rootfs.PROGRAM], stdin=pyminicon.DEVNULL, capture_output=True).returncode != 0:
            raise RuntimeError("the payload failed")
    return number


@contextlib.contextmanager
def _plain(root: str, processes: int) -> Iterator[Map]:
    with contextlib.ExitStack() as stack:
        # A pool each: a pool of two may give both parts to one.
        pools = [stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for _ in range(processes)]

        def run(jobs: list[list[str]]) -> Iterable[Any]:
            parts = [pool.submit(_loop, root, len(jobs) // processes) for pool in pools]
            return range(sum(part.result() for part in parts))

        yield run


@contextlib.contextmanager
def _dask(root: str, processes: int) -> Iterator[Map]:
    import dask as whole
    from distributed import Client, LocalCluster

    from pyminicon.adapters import dask

    with (
        # A lost worker's job is the adapter's to give out again, or not.
        whole.config.set({"distributed.scheduler.allowed-failures": 0}),
        tempfile.TemporaryDirectory() as place,
        LocalCluster(
            n_workers=processes, threads_per_worker=1, processes=True, dashboard_address=":0",
            local_directory=place, silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield lambda jobs, **more: dask.map(client, jobs, **{"image": root, "stock": STOCK, **more})


@contextlib.contextmanager
def _ray(root: str, processes: int) -> Iterator[Map]:
    import ray

    from pyminicon.adapters import ray as boxes

    ray.init(
        num_cpus=processes, include_dashboard=False, logging_level="error", log_to_driver=False,
        object_store_memory=100 << 20,
    )  # fmt: skip
    try:
        yield lambda jobs, **more: boxes.map(jobs, **{"image": root, "stock": STOCK, **more})
    finally:
        ray.shutdown()


SIDES = {"adapters.dask.map": _dask, "adapters.ray.map": _ray}


def timed(run: Map, number: int) -> float:
    """Jobs per second, every result looked at."""
    jobs = [[rootfs.PROGRAM]] * number
    start = time.perf_counter()
    done = sum(1 for _ in run(jobs))
    seconds = time.perf_counter() - start
    if done != number:
        raise RuntimeError(f"{done} results of {number} jobs")
    return number / seconds


# ---- a worker that is killed ------------------------------------------------------------------------------


def _asleep(mark: str) -> list[int]:
    """Processes that are ``sleep MARK``."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read() == f"sleep\0{mark}\0".encode():
                found.append(int(pid))
    return found


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def _cgroups(worker: int) -> list[str]:
    return [
        f"{place}/{name}" for place, names, _ in os.walk("/sys/fs/cgroup") for name in names
        if name.startswith("pyminicon-") and f"-{worker}-" in name
    ]  # fmt: skip


def _until(what: Callable[[], bool]) -> float:
    """Seconds until it holds. Raises TimeoutError."""
    begun = time.perf_counter()
    while not what():
        if time.perf_counter() - begun > 30:
            raise TimeoutError("a killed worker left something")
        time.sleep(0.001)
    return time.perf_counter() - begun


def _kill_one(run: Map, number: int) -> tuple[float, float]:
    """Seconds after its worker was killed until a job's container is gone, and until the worker has no cgroup."""
    mark = f"96.{os.getpid()}{number:03}"
    # Both the job and what its template's warm pool has: containers of one worker, each with its cgroups.
    results = iter(run([["sleep", mark]], image="host", memory="64M", retries=0, return_exceptions=True))
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(next(results)))
    waiting.start()
    try:
        _until(lambda: bool(_asleep(mark)))
        (inside,) = _asleep(mark)
        worker = _parent(inside)
        if not _cgroups(worker):
            raise RuntimeError("the job has no cgroup")
        os.kill(worker, signal.SIGKILL)
        begun = time.perf_counter()
        _until(lambda: not _asleep(mark))
        gone = time.perf_counter() - begun
        _until(lambda: not _cgroups(worker))
        return gone, time.perf_counter() - begun
    finally:
        waiting.join()


def lose_workers(side: str, root: str, processes: int, number: int) -> dict[str, Any]:
    """The milliseconds of ``number`` workers that were killed."""
    with SIDES[side](root, processes) as cluster:
        times = [_kill_one(cluster, n) for n in range(number)]
    row: dict[str, Any] = {"name": side, "workers": number}
    for what, seconds in zip(("gone_ms", "cgroups_ms"), zip(*times, strict=True), strict=True):
        row[what], row[f"{what}_most"] = (round(f(seconds) * 1e3, 1) for f in (statistics.median, max))
    return row


def compare(side: str, root: str, processes: int, windows: int, number: int) -> list[dict[str, Any]]:
    """The adapter and the plain processes, window by window in random order."""
    plain = "plain processes"
    found: dict[str, list[float]] = {side: [], plain: []}
    with SIDES[side](root, processes) as cluster, _plain(root, processes) as bare:
        turns = [(side, cluster), (plain, bare)]
        for _, run in turns:
            timed(run, processes * (number // (4 * processes)))
        shuffle = random.Random(5).shuffle
        deadline = time.monotonic() + BUDGET
        for done in range(windows):
            if done >= LEAST_WINDOWS and time.monotonic() > deadline:
                break
            shuffle(turns)
            for name, run in turns:
                found[name].append(timed(run, number))
    ratios = [ours / theirs for ours, theirs in zip(found[side], found[plain], strict=True)]
    return [
        {
            "name": name if name == side else f"{plain}, beside {side}",
            "per_second": round(statistics.median(values), 1),
            "windows": [round(value, 1) for value in values],
            "ratio": round(statistics.median(ratios), 3) if name == side else 1.0,
        }
        for name, values in found.items()
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how many processes there are."""
    text = "processes on either side; default: one a processor"
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help=text)


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    root = str(rootfs.minimal())
    windows, number = (3, 400) if options.quick else (21, 600)
    number -= number % options.processes
    killed = [lose_workers(side, root, options.processes, 2 if options.quick else KILLED) for side in SIDES]
    names = ("name", "gone_ms", "gone_ms_most", "cgroups_ms", "cgroups_ms_most")
    title = "a killed worker's containers and cgroups (milliseconds)"
    header = ("", "gone", "at most", "cgroups removed", "at most")
    report.show(report.table(title, header, [[row[name] for name in names] for row in killed]))
    rows: list[dict[str, Any]] = []
    for side in SIDES:
        rows += compare(side, root, options.processes, windows, number)
    cells = [[row["name"], row["per_second"], row["ratio"]] for row in rows]
    title = f"cluster (jobs per second, {options.processes} processes)"
    report.show(report.table(title, ("", "jobs/s", "ratio"), cells))
    return {
        "unit": "jobs per second", "processes": options.processes, "jobs": number, "rows": rows, "killed": killed,
    }  # fmt: skip
