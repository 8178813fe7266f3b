"""Contestants in turns: every round runs each once, in a fresh random order.

In turns, since a virtual machine's speed drifts by tens of per cent within a minute: what is
compared has to be measured side by side. Medians and ratios, since single figures travel badly.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from typing import NamedTuple

IDLE_SECONDS = 0.1  # how containers are really started: what waits for RCU only shows after idleness


class Case(NamedTuple):
    """A contestant: ``run`` does one whole round trip and returns its nanoseconds."""

    name: str
    run: Callable[[], int]


class Figures(NamedTuple):
    """What a series of measurements comes to, in microseconds."""

    number: int
    p50: float
    p90: float
    p99: float
    least: float

    def as_dict(self) -> dict[str, float]:
        return {name: round(value, 2) for name, value in self._asdict().items()}


def figures(nanoseconds: list[int]) -> Figures:
    """Order statistics of a non-empty series, nearest rank."""
    values = sorted(nanoseconds)

    def at(fraction: float) -> float:
        return values[min(len(values) - 1, int(len(values) * fraction))] / 1e3

    return Figures(len(values), at(0.5), at(0.9), at(0.99), values[0] / 1e3)


def timed(call: Callable[[], object]) -> Callable[[], int]:
    """Turn a call into one that returns how long it took, in nanoseconds."""
    clock = time.perf_counter_ns

    def run() -> int:
        start = clock()
        call()
        return clock() - start

    return run


def in_turns(
    cases: list[Case], rounds: int, *, idle: float = 0.0, budget: float = 60.0, warm_up: int = 3
) -> dict[str, Figures]:
    """Run every case once a round; stop after ``rounds`` or ``budget`` seconds (20 rounds at least).

    idle: seconds to sleep before each single run. The garbage collector is off meanwhile, as under
    timeit. Returns the figures by case name.
    """
    series: dict[str, list[int]] = {case.name: [] for case in cases}
    for case in cases:
        for _ in range(warm_up):
            case.run()
    order, shuffle = list(cases), random.Random(20).shuffle
    deadline = time.monotonic() + budget
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for done in range(rounds):
            if done >= 20 and time.monotonic() > deadline:
                break
            shuffle(order)
            for case in order:
                if idle:
                    time.sleep(idle)
                series[case.name].append(case.run())
    finally:
        if collecting:
            gc.enable()
    return {name: figures(values) for name, values in series.items() if values}
