"""``throughput``: launches per second from 1 to 32 threads and from asyncio, in turns of a window each."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from . import report, rootfs
from .contestants import DEFAULTS, Ground, checked, default_filter, floor_case
from .ground import own_memory_cgroup

Make = Callable[[], Callable[[], object]]  # called once a thread: the floor's job isn't shared


def in_threads(make: Make, threads: int, seconds: float) -> float:
    """Launches per second of ``threads`` threads that launch one after the other for a while."""
    counts, errors = [0] * threads, []
    gate = threading.Barrier(threads + 1)
    stop = threading.Event()

    def work(slot: int) -> None:
        try:
            launch = make()
            launch()
            gate.wait()
            while not stop.is_set():
                launch()
                counts[slot] += 1
        except BaseException as error:
            errors.append(error)
            gate.abort()

    team = [threading.Thread(target=work, args=(slot,)) for slot in range(threads)]
    for thread in team:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        gate.wait()
        start = time.perf_counter()
        time.sleep(seconds)
    stop.set()
    for thread in team:
        thread.join()
    if errors:
        raise errors[0]
    # What was under way at the bell has been waited for: its time counts too.
    return sum(counts) / (time.perf_counter() - start)


def in_asyncio(make: Callable[[], Awaitable[object]], at_once: int, seconds: float) -> float:
    """Launches per second of ``at_once`` tasks on one loop."""

    async def work(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            await make()
            count += 1
        return count

    async def whole() -> float:
        await make()
        start = time.perf_counter()
        counts = await asyncio.gather(*(work(start + seconds) for _ in range(at_once)))
        return sum(counts) / (time.perf_counter() - start)

    return asyncio.run(whole())


def _spawn_in_asyncio(program: str) -> Callable[[], Awaitable[object]]:
    async def once() -> None:
        process = await asyncio.create_subprocess_exec(program)
        await process.wait()

    return once


def product_makers(ground: Ground, stack: contextlib.ExitStack) -> dict[str, Make]:
    """What is the product's in threads."""
    import pyminicon

    command = [rootfs.PROGRAM]
    run = checked(pyminicon.run, command, image=ground.root)
    template = checked(stack.enter_context(pyminicon.Template(image=ground.root)).run, command)
    return {"pyminicon.run": lambda: run, "Template.run": lambda: template}


def _makers(ground: Ground, stack: contextlib.ExitStack) -> dict[str, Make]:
    program = ground.root + rootfs.PROGRAM
    makers: dict[str, Make] = {
        "floor": lambda: floor_case(ground, "floor", DEFAULTS).run,
        "subprocess.run bare": lambda: lambda: subprocess.run([program], check=True),
    }
    with contextlib.suppress(ImportError, AttributeError):
        makers.update(product_makers(ground, stack))
    return makers


def async_product_makers(ground: Ground) -> dict[str, Callable[[], Awaitable[object]]]:
    """What is the product's on a loop."""
    import pyminicon

    aio = pyminicon.aio
    return {"pyminicon.aio.run": lambda: aio.run([rootfs.PROGRAM], image=ground.root)}


def _async_makers(ground: Ground) -> dict[str, Callable[[], Awaitable[object]]]:
    makers = {"asyncio subprocess bare": _spawn_in_asyncio(ground.root + rootfs.PROGRAM)}
    with contextlib.suppress(ImportError, AttributeError):
        makers.update(async_product_makers(ground))
    return makers


def measure(ground: Ground, counts: tuple[int, ...], windows: int, seconds: float) -> list[dict[str, Any]]:
    """Medians of ``windows`` windows; in each round every contestant has one, in random order."""
    found: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        calls: list[tuple[str, int, Callable[[], float]]] = []
        for name, make in _makers(ground, stack).items():
            calls += [(name, n, partial(in_threads, make, n, seconds)) for n in counts]
        for name, once in _async_makers(ground).items():
            calls += [(name, n, partial(in_asyncio, once, n, seconds)) for n in (1, counts[-1])]
        shuffle = random.Random(3).shuffle
        for _ in range(windows):
            shuffle(calls)
            for name, n, call in calls:
                found.setdefault((name, n), []).append(call())
    rows: dict[str, dict[str, Any]] = {}
    for (name, n), values in sorted(found.items()):
        row = rows.setdefault(name, {"name": name, "per_second": {}, "windows": {}})
        row["per_second"][str(n)] = round(statistics.median(values), 1)
        row["windows"][str(n)] = [round(value, 1) for value in values]
    for row in rows.values():
        floor = rows["floor"]["per_second"]
        row["ratio"] = {n: round(v / floor[n], 3) for n, v in row["per_second"].items() if n in floor}
    return list(rows.values())


def show(rows: list[dict[str, Any]], counts: tuple[int, ...]) -> None:
    """Launches per second by threads, in brackets times the floor's."""
    body = []
    for row in rows:
        cells: list[Any] = [row["name"]]
        for n in map(str, counts):
            value = row["per_second"].get(n)
            cells.append(None if value is None else f"{value:.0f} ({row['ratio'].get(n, 0):.2f})")
        body.append(cells)
    header = ("threads (asyncio: tasks)", *map(str, counts))
    report.show(report.table("throughput (launches per second, times the floor's)", header, body))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``throughput`` has no options of its own."""


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    counts = (1, 2, 8) if options.quick else (1, 2, 4, 8, 32)
    windows, seconds = (1, 0.4) if options.quick else (5, 1.0)
    with own_memory_cgroup() as memory:
        ground = Ground(str(rootfs.minimal()), default_filter(), memory, -1, -1)
        rows = measure(ground, counts, windows, seconds)
    show(rows, counts)
    return {"unit": "launches per second", "rows": rows}
