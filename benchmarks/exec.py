"""``exec``: a command in a container that lives, beside a bare subprocess.run and the others' exec, in turns."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyminicon

from . import bundles, report, rootfs
from .flat import compare, workers
from .measure import Case, Figures, in_turns, timed

_THREADS = 32


def _others(runtime: str, root: str, folder: Path, stack: contextlib.ExitStack) -> Case:
    """``crun exec`` and ``runc exec`` into a container that sleeps."""
    bundle = bundles.write(folder / runtime, root, cgroup=f"/{runtime}-bench-exec", with_seccomp=False)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["args"] = [rootfs.PROGRAM, "s"]  # it sleeps
    path.write_text(json.dumps(config))
    words = [runtime, "--root", str(folder / f"{runtime}-state")]
    name = f"bench-exec-{os.getpid()}"
    subprocess.run(
        [*words, "run", "--detach", "--bundle", str(bundle), name], check=True, stdin=subprocess.DEVNULL
    )
    stack.callback(subprocess.run, [*words, "delete", "--force", name], check=False)
    command = [*words, "exec", name, rootfs.PROGRAM]
    return Case(f"{runtime} exec", timed(lambda: subprocess.run(command, check=True)))


def _rate(run: Callable[[int], object], seconds: float) -> float:
    """How often a second, by so many threads together."""
    counts = [0] * _THREADS
    end = time.monotonic() + seconds

    def go(number: int) -> None:
        while time.monotonic() < end:
            run(number)
            counts[number] += 1

    threads = [threading.Thread(target=go, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _rates(program: str, box: Any, root: str, seconds: float) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        boxes = [stack.enter_context(pyminicon.start(image=root)) for _ in range(_THREADS)]
        works: dict[str, Callable[[int], object]] = {
            "subprocess.run bare": lambda _: subprocess.run([program], check=True),
            "one container": lambda _: box.run([rootfs.PROGRAM], check=True),
            "a container for each": lambda number: boxes[number].run([rootfs.PROGRAM], check=True),
        }
        return {name: round(_rate(work, seconds), 1) for name, work in works.items()}


_HUNDRED = "i=0; while [ $i -lt 100 ]; do sleep 400 & i=$((i+1)); done; echo up; wait"


def _ends(rounds: int) -> dict[str, float]:
    """Milliseconds (p50) from kill() to the end of a command with a hundred processes that lie still."""
    found: dict[str, float] = {}
    kinds: dict[str, Any] = {"without a cgroup": {}, "with one": {"usage": True}}
    for name, own in kinds.items():
        times: list[float] = []
        with contextlib.suppress(pyminicon.Error), pyminicon.start(**own) as box:
            for _ in range(rounds):
                with box.start(["sh", "-c", _HUNDRED], stdout=subprocess.PIPE) as process:
                    process.stdout.readline()
                    time.sleep(0.02)  # until the last of them sleeps
                    begun = time.perf_counter()
                    process.kill()
                    process.wait()
                    times.append(time.perf_counter() - begun)
            found[name] = round(sorted(times)[rounds // 2] * 1000, 2)
    return found


def _flat(rounds: int, crowd: int) -> dict[str, float]:
    """A command from callers of several sizes, asked in turns, and beside a crowd of containers: p50 in
    microseconds."""
    small = {"commands": True, "cases": ["c.run"]}
    setups: dict[str, dict[str, Any]] = {
        "a small caller": {**small},
        "4 GB": {**small, "megabytes": 4000},
        "10,000 descriptors": {**small, "descriptors": 10000},
    }
    found: dict[str, Figures] = {}
    with workers(setups) as alive:
        found.update(compare(alive, rounds, 15.0)["c.run"])
    with contextlib.ExitStack() as stack:
        alive = stack.enter_context(workers({f"{crowd:,} containers": {**small}}))
        for _ in range(crowd):
            stack.enter_context(pyminicon.start(image=str(rootfs.minimal())))
        found.update(compare(alive, rounds, 15.0)["c.run"])
    return {level: round(figures.p50, 1) for level, figures in found.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``exec`` has no options of its own."""


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    rounds, budget, seconds = (50, 20.0, 1.0) if options.quick else (500, 60.0, 5.0)
    root = str(rootfs.minimal())
    program = root + rootfs.PROGRAM
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyminicon-bench-")))
        box = stack.enter_context(pyminicon.start(image=root))
        cases = [
            Case("subprocess.run bare", timed(lambda: subprocess.run([program], check=True))),
            Case("c.run", timed(lambda: box.run([rootfs.PROGRAM], check=True))),
        ]
        with contextlib.suppress(pyminicon.Error):
            limited = stack.enter_context(pyminicon.start(image=root, memory="256M"))
            cases.append(
                Case("c.run with a cgroup", timed(lambda: limited.run([rootfs.PROGRAM], check=True)))
            )
        for runtime in ("crun", "runc"):
            if shutil.which(runtime) is None:
                missing[runtime] = "isn't installed"
                continue
            try:
                cases.append(_others(runtime, root, folder, stack))
            except (OSError, subprocess.CalledProcessError) as error:
                missing[runtime] = str(error)
        found = in_turns(cases, rounds, budget=budget)
        rates = _rates(program, box, root, seconds)
    ends = _ends(5 if options.quick else 31)
    flat = _flat(20, 100) if options.quick else _flat(200, 1000)
    bare = found["subprocess.run bare"].p50
    rows = [
        {"name": name, **one.as_dict(), "times_bare": round(one.p50 / bare, 2)} for name, one in found.items()
    ]
    header = ("contestant", "p50", "p99", "x bare")
    body = [[row["name"], row["p50"], row["p99"], row["times_bare"]] for row in rows]
    report.show(report.table("exec (microseconds)", header, body))
    report.show(
        report.table(f"{_THREADS} threads (commands a second)", ("where", "rate"), list(rates.items()))
    )
    report.show(report.table("the end of 100 processes (ms)", ("where", "p50"), list(ends.items())))
    report.show(report.table("c.run, by its caller (microseconds)", ("caller", "p50"), list(flat.items())))
    for name, why in missing.items():
        report.show(f"  {name} could not run: {why}")
    return {"unit": "us", "rows": rows, "rates": rates, "ends": ends, "flat": flat, "missing": missing}
