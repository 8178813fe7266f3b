"""``flat``: one launch, while the parent's memory and descriptors, the host's mounts, and the number of
running containers grow. Parents of all sizes live at once and are asked in turns."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from . import report, rootfs
from .measure import Figures, figures


class Worker:
    """A parent with a set-up (see worker.py), asked through a pipe."""

    def __init__(self, setup: dict[str, Any]) -> None:
        command = [setup.pop("python", sys.executable), "-m", "benchmarks.worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self._place: str | None = None
        self._send(json.dumps(setup))
        self.ready = self._read()
        if "place" in self.ready:
            self._place, self.ready = self.ready["place"], self._read()

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, case: str) -> int:
        """One launch there; nanoseconds."""
        self._send(case)
        answer = self._read()
        if "error" in answer:
            raise RuntimeError(f"{case}: {answer['error']}")
        return int(answer["ns"])

    def close(self) -> None:
        """End the worker; the mount point it made is empty outside its namespace."""
        with contextlib.suppress(OSError, ValueError):
            self._send("")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._process.wait()
        if self._place:
            os.rmdir(self._place)


@contextlib.contextmanager
def workers(setups: dict[str, dict[str, Any]]) -> Iterator[dict[str, Worker]]:
    """One worker a level, all alive at the same time."""
    alive: dict[str, Worker] = {}
    try:
        for level, setup in setups.items():
            alive[level] = Worker(setup)
        yield alive
    finally:
        for worker in alive.values():
            worker.close()


def compare(alive: dict[str, Worker], rounds: int, budget: float) -> dict[str, dict[str, Figures]]:
    """Every level's every case once a round, in random order. Returns {case: {level: figures}}."""
    pairs = [(level, case) for level, worker in alive.items() for case in worker.ready["cases"]]
    series: dict[tuple[str, str], list[int]] = {pair: [] for pair in pairs}
    for level, case in pairs:
        for _ in range(3):
            alive[level].run(case)
    deadline = time.monotonic() + budget
    shuffle = random.Random(7).shuffle
    for done in range(rounds):
        if done >= 20 and time.monotonic() > deadline:
            break
        shuffle(pairs)
        for level, case in pairs:
            # Forking 8 GB takes 0.1 s and more: a few of those say enough.
            if case == "fork+exec" and done % 10:
                continue
            series[level, case].append(alive[level].run(case))
    found: dict[str, dict[str, Figures]] = {}
    for (level, case), values in series.items():
        found.setdefault(case, {})[level] = figures(values)
    return found


def _running(options: argparse.Namespace, most: int, rounds: int) -> dict[str, dict[str, Figures]]:
    """The launch of another process while 0, a tenth of, and all of ``most`` containers sleep."""
    import pyminicon

    found: dict[str, dict[str, Figures]] = {}
    sleepers: list[Any] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [sleeper.kill() or sleeper.wait() for sleeper in sleepers])
        setup = {"uid": options.uid, "python": options.python}
        alive = stack.enter_context(workers({"0": setup}))
        for level in (0, most // 10, most):
            while len(sleepers) < level:
                sleepers.append(pyminicon.start([rootfs.PROGRAM, "s"], image=str(rootfs.minimal())))
            for case, by_level in compare(alive, rounds, 25.0).items():
                found.setdefault(case, {})[str(level)] = by_level["0"]
    return found


def _levels(quick: bool) -> dict[str, dict[str, dict[str, Any]]]:
    megabytes = (50, 1000) if quick else (50, 1000, 4000, 8000)
    descriptors = (10, 1000) if quick else (10, 1000, 10000)
    mounts = (30, 1000) if quick else (30, 300, 1000, 3000)
    return {
        "megabytes": {str(n): {"megabytes": n} for n in megabytes},
        "descriptors": {str(n): {"descriptors": n} for n in descriptors},
        "mounts": {str(n): {"mounts": n} for n in mounts},
    }


def _rows(found: dict[str, dict[str, Figures]]) -> list[dict[str, Any]]:
    rows = []
    for case, by_level in found.items():
        least = next(iter(by_level.values()))
        rows.append({
            "name": case,
            "levels": {level: f.as_dict() for level, f in by_level.items()},
            "ratio": {level: round(f.p50 / least.p50, 3) for level, f in by_level.items()},
        })  # fmt: skip
    return rows


def show(what: str, rows: list[dict[str, Any]]) -> None:
    """p50 by level and, in brackets, the ratio to the first level."""
    levels = list(rows[0]["levels"])
    body = []
    for row in rows:
        found, ratio = row["levels"], row["ratio"]
        body.append([row["name"], *(f"{found[n]['p50']:.0f} ({ratio[n]:.2f})" for n in levels)])
    report.show(report.table(f"flat: {what} (p50 in microseconds, ratio to the first)", ("", *levels), body))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``flat``."""
    parser.add_argument("--uid", type=int, default=0, help="launch as this user (the floor is left out)")
    text = "the workers' interpreter (an ordinary user must be able to read it)"
    parser.add_argument("--python", default=sys.executable, help=text)
    parser.add_argument("--only", default="", help="megabytes, descriptors, mounts or containers")


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    rounds, budget = (30, 15.0) if options.quick else (200, 25.0)
    body: dict[str, Any] = {"unit": "us", "uid": options.uid}
    for what, setups in _levels(options.quick).items():
        if options.only not in what:
            continue
        more = {"uid": options.uid, "python": options.python}
        with workers({level: {**setup, **more} for level, setup in setups.items()}) as alive:
            body[what] = _rows(compare(alive, rounds, budget))
        show(what, body[what])
    if options.only in "containers":
        body["containers"] = _rows(_running(options, 50 if options.quick else 1000, rounds))
        show("containers", body["containers"])
    return body
