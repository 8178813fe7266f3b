"""``samples``: how soon inspect_ai's provider has a sample ready within a task, whose template keeps a warm pool.

Beside it a sample without a task, which is started from nothing, and what a sample's clean-up takes. Back to back, where
the pool can't keep up with whoever does nothing but ask, and after 100 ms of sleep. The directory's name is the minimal
root's, in which there is nothing but one program; ``host`` is what a task has that names no image.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from . import report, rootfs
from .measure import IDLE_SECONDS, figures

BUDGET = 25.0  # seconds a mode
_WARM_UP = 5
Ask = Callable[[], Awaitable[tuple[int, int]]]


async def _sample(config: Any) -> tuple[int, int]:
    """Nanoseconds until a sample is ready, and of its clean-up."""
    from pyminicon.adapters.inspect_ai import PyminiconSandboxEnvironment as Box

    begun = time.perf_counter_ns()
    made = await Box.sample_init("task", config, {})
    ready = time.perf_counter_ns()
    await Box.sample_cleanup("task", config, made, False)
    return ready - begun, time.perf_counter_ns() - ready


@contextlib.asynccontextmanager
async def _task(config: Any) -> AsyncIterator[None]:
    from pyminicon.adapters.inspect_ai import PyminiconSandboxEnvironment as Box

    await Box.task_init("task", config)
    try:
        yield
    finally:
        await Box.task_cleanup("task", config, True)


async def _timed(asked: dict[str, Ask], rounds: int, idle: float) -> dict[str, tuple[list[int], list[int]]]:
    """In turns, in random order."""
    found: dict[str, tuple[list[int], list[int]]] = {name: ([], []) for name in asked}
    order, shuffle = [*asked], random.Random(20).shuffle
    deadline = time.monotonic() + BUDGET
    for done in range(-_WARM_UP, rounds):
        if done >= 20 and time.monotonic() > deadline:
            break
        shuffle(order)
        for name in order:
            if idle:
                await asyncio.sleep(idle)
            ready, gone = await asked[name]()
            if done >= 0:
                found[name][0].append(ready)
                found[name][1].append(gone)
    return found


async def _measured(rounds: int) -> list[dict[str, Any]]:
    from pyminicon.adapters.inspect_ai import PyminiconConfig

    root = str(rootfs.minimal())
    configs = {"host": PyminiconConfig(), "a directory": PyminiconConfig(image=root)}
    rows: dict[str, dict[str, Any]] = {}
    for where in ("within a task", "without one"):
        asked: dict[str, Ask] = {}
        async with contextlib.AsyncExitStack() as stack:
            for image, config in configs.items():
                if where == "within a task":
                    await stack.enter_async_context(_task(config))
                asked[f"{image}, {where}"] = lambda config=config: _sample(config)  # type: ignore[misc]
            for mode, idle in (("busy", 0.0), ("idle", IDLE_SECONDS)):
                found = await _timed(asked, rounds // 4 if idle else rounds, idle)
                for name, series in found.items():
                    for what, values in zip(("sample_init", "sample_cleanup"), series, strict=True):
                        row = rows.setdefault(f"{what}: {name}", {"name": f"{what}: {name}"})
                        row[mode] = figures(values).as_dict()
    return sorted(rows.values(), key=lambda row: not row["name"].startswith("sample_init"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how many samples there are."""
    parser.add_argument(
        "--samples", type=int, default=400, help="of each kind, a quarter of them after a pause"
    )


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    from importlib.metadata import version

    gc.disable()  # as under timeit
    rows = asyncio.run(_measured(40 if options.quick else options.samples))
    cells = [
        [row["name"], *(row[mode][name] for mode in ("busy", "idle") for name in ("p50", "p99"))]
        for row in rows
    ]
    header = ("", "p50", "p99", "idle: p50", "idle: p99")
    report.show(report.table("samples (microseconds)", header, cells))
    return {"unit": "us", "inspect_ai": version("inspect-ai"), "rows": rows}
