"""``sustained``: one caller that starts one container after the other, without a pause and with one.

In turns of a block each: what a template's warm pool has at a block's beginning is a small part of the block, so
the figures are those of a program that goes on asking.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable
from typing import Any

import pyminicon

from . import report, rootfs
from .contestants import checked
from .measure import figures, timed

PAUSES = {"no pause": 0.0, "0.3 ms": 0.0003, "1 ms": 0.001, "2 ms": 0.002, "5 ms": 0.005}


def block(run: Callable[[], int], number: int, pause: float) -> list[int]:
    """The times of ``number`` runs in a row."""
    times = []
    for _ in range(number):
        if pause:
            until = time.perf_counter() + pause
            while time.perf_counter() < until:  # work of the caller's; a sleep would last longer
                pass
        times.append(run())
    return times


def measure(
    calls: dict[str, Callable[[], int]], blocks: int, number: int, seconds: float
) -> dict[tuple[str, str], list[int]]:
    """All times of each contestant at each pause, blocks in random order; after ``seconds`` no other block is begun."""
    turns = [(name, pause) for name in calls for pause in PAUSES]
    series: dict[tuple[str, str], list[int]] = {turn: [] for turn in turns}
    shuffle = random.Random(11).shuffle
    until = time.monotonic() + seconds
    gc.disable()
    try:
        for _ in range(blocks):
            if time.monotonic() > until and all(series.values()):
                break
            shuffle(turns)
            for name, pause in turns:
                time.sleep(0.02)  # a template's warm pool is full again
                series[name, pause] += block(calls[name], number, PAUSES[pause])
    finally:
        gc.enable()
    return series


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=100.0, help="bound of the measuring")


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    root, command = str(rootfs.minimal()), [rootfs.PROGRAM]
    with pyminicon.Template(image=root) as template:
        calls = {
            "pyminicon.run": timed(checked(pyminicon.run, command, image=root)),
            "Template.run": timed(checked(template.run, command)),
        }
        for call in calls.values():
            block(call, 3, 0.0)
        series = measure(calls, 3 if options.quick else 20, 60, options.seconds)
    rows = [
        {"name": name, "pause": pause, "runs": len(times), **figures(times).as_dict()}
        for (name, pause), times in series.items()
    ]
    rows.sort(key=lambda row: (list(PAUSES).index(str(row["pause"])), str(row["name"])))
    cells = [[f"{row['name']}, {row['pause']}", row["p50"], row["p90"], row["p99"]] for row in rows]
    report.show(report.table("sustained (microseconds)", ("", "p50", "p90", "p99"), cells))
    return {"unit": "us", "rows": rows}
