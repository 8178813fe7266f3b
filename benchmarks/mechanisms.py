"""``mechanisms``: the whole, and without each clever part, in turns: what does that part gain?

Each variant is this tree with a few lines replaced. A replacement whose line isn't there any more ends the benchmark:
the source has moved, and ``MECHANISMS`` has to follow it. The builds can be made ahead and kept (``--builds``,
``--build``), and the mechanisms be measured one at a time (``--only``, ``--add``), each when the machine is quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyminicon

from . import report, rootfs
from .measure import IDLE_SECONDS, figures

_TOP = Path(__file__).resolve().parent.parent
_TREE = ("csrc", "pyminicon", "tools", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")


class Mechanism(NamedTuple):
    """``without``: (file, what stands there, what takes its place). ``cases``: the calls that it is for."""

    name: str
    cases: tuple[str, ...]
    without: tuple[tuple[str, str, str], ...]


_RUNS = 16  # in one turn
_LEAST = 6  # turns, however long they take
MECHANISMS = (
    Mechanism("nothing (the same again)", ("run", "aio 16"), ()),
    Mechanism(
        "plan cache",
        ("run", "aio 16"),
        (
            ("pyminicon/plan/cache.py", "found = _known.find(options, False)", "found = None"),
            ("pyminicon/plan/cache.py", "_recalled(_known.find(options, True), args", "_recalled(None, args"),
        ),
    ),
    Mechanism(
        "netns helper",
        ("run", "aio 1"),
        (
            (
                "csrc/parent/launch/netns_helper.cc",
                "return CPU_COUNT(&mine) >= 2 * going.load(std::memory_order_relaxed);",
                "return false;",
            ),
        ),
    ),
    Mechanism(
        "undoing by the reaper",
        ("run", "aio 1"),
        (
            (
                "csrc/parent/launch/memory_mode.cc",
                "return !spec.separate_memory && !spec.disk_parent && spec.all_stay;",
                "return spec.all_stay && false;",
            ),
        ),
    ),
    Mechanism(
        "shared memory",
        ("run", "run read-only"),
        (
            (
                "csrc/parent/launch/memory_mode.cc",
                "return unsafe || allows_cores(spec)",
                "return true || unsafe || allows_cores(spec)",
            ),
        ),
    ),
    Mechanism(
        "warm pool",
        ("template", "template of host"),
        (
            (
                "csrc/parent/pool/warm_pool.cc",
                "const bool fill = !failed && ready.size() < size && direct == 0;",
                "const bool fill = false;",
            ),
        ),
    ),
    Mechanism(
        "changes of /etc told by the kernel",
        ("run host",),
        (
            (
                "csrc/parent/plan/hidden.cc",
                "return Fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));",
                "return Fd();",
            ),
        ),
    ),
    Mechanism(
        "launch pool",
        ("aio 2", "aio 16", "loop beside 16"),
        (
            (
                "pyminicon/aio/launching.py",
                "if watch.going == 1 and not core.may_hang:",
                "if not core.may_hang:",
            ),
        ),
    ),
)


def taken_out(tree: Path, mechanism: Mechanism) -> None:
    """Replaces in ``tree``. Raises RuntimeError where the source has moved."""
    for name, there, instead in mechanism.without:
        text = (tree / name).read_text()
        if text.count(there) != 1:
            raise RuntimeError(
                f"{mechanism.name}: {name} has {text.count(there)} lines with {there!r}, not one"
            )
        (tree / name).write_text(text.replace(there, instead))


def install(tree: Path, into: Path) -> None:
    """What ``tree`` is built to, into a directory of its own."""
    report.show(f"building {into.name}")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(into), str(tree)]
    subprocess.run([*command, "--disable-pip-version-check"], check=True)


def _copy(folder: Path) -> Path:
    tree = folder / "tree"
    for name in _TREE:
        if (_TOP / name).is_dir():
            shutil.copytree(_TOP / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(_TOP / name, tree / name)
    return tree


def _compiled(mechanism: Mechanism) -> bool:
    return any(name.startswith("csrc") for name, _, _ in mechanism.without)


def whole_build(folder: Path, installed: bool) -> Path:
    """The whole, installed beneath ``folder`` unless it is there."""
    whole = folder / "whole"
    if installed and not whole.exists():
        shutil.copytree(Path(pyminicon.__file__).parent, whole / "pyminicon")
    elif not whole.exists():
        install(_copy(folder), whole)
        shutil.rmtree(folder / "tree")
    return whole


def variant(folder: Path, mechanism: Mechanism) -> Path:
    """The same without one; of Python alone, it has the whole's core."""
    place = folder / "".join(c if c.isalnum() else "-" for c in mechanism.name)
    if place.exists():
        return place
    if _compiled(mechanism):
        tree = _copy(folder)
        taken_out(tree, mechanism)
        install(tree, place)
        shutil.rmtree(tree)
    else:
        shutil.copytree(folder / "whole", place)
        taken_out(place, mechanism)
    return place


# In a process of its own, with one variant: a line of JSON [case, runs, idle] is answered by one of
# [[nanoseconds of each launch], processor time of one]. Processor time is that of the process, of what it has
# waited for, and of the children that it keeps: the reaper. "loop beside 16" has, instead of the launches', the time
# by which a timer of the loop is late meanwhile.
_WORKER = """
import asyncio, gc, json, os, resource, sys, time
sys.path.insert(0, sys.argv[1])
import pyminicon
from pyminicon import aio
assert pyminicon.__file__.startswith(sys.argv[1])
command, image = [sys.argv[3]], {"image": sys.argv[2]}
clock = time.perf_counter_ns
def on_processor():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    spent = sum(one.ru_utime + one.ru_stime for one in both) * 1e9
    waiting, seen = [os.getpid()], 0
    while waiting:
        pid = waiting.pop()
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    try:
                        with open(f"/proc/{child}/schedstat") as about:
                            spent += int(about.read().split()[0])
                    except OSError:
                        continue
                    waiting.append(int(child))
    return spent
kinds, templates = {"run": image, "run read-only": image | {"read_only": True}, "run host": {}}, {}
for kind, options in {"template": image, "template of host": {}}.items():
    kinds[kind] = options
def called(kind):
    if not kind.startswith("template"):
        return lambda: pyminicon.run(command if "image" in kinds[kind] else ["/bin/true"], **kinds[kind])
    if kind not in templates:
        templates[kind] = pyminicon.Template(**kinds[kind])
    return lambda: templates[kind].run(command if "image" in kinds[kind] else ["/bin/true"])
def run(kind, runs, idle):
    took, call = [], called(kind)
    for _ in range(runs):
        time.sleep(idle)
        begun = clock()
        assert call().returncode == 0
        took.append(clock() - begun)
    return took
async def lateness(late):
    while True:
        begun = clock()
        await asyncio.sleep(0.001)
        late.append(max(clock() - begun - 1_000_000, 0))
async def on_loop(at_once, runs, idle, beside=False):
    took, late = [], []
    ticking = asyncio.ensure_future(lateness(late)) if beside else None
    async def one():
        begun = clock()
        assert (await aio.run(command, **image)).returncode == 0
        took.append(clock() - begun)
    for _ in range(max(runs // at_once, 1)):
        await asyncio.sleep(idle)
        await asyncio.gather(*(one() for _ in range(at_once)))
    if ticking is not None:
        ticking.cancel()
    return (late if beside else took), len(took)
loop = asyncio.new_event_loop()
gc.disable()
for line in sys.stdin:
    case, runs, idle = json.loads(line)
    before = on_processor()
    if case in kinds:
        took = run(case, runs, idle)
        launched = len(took)
    else:
        beside = case.startswith("loop")
        many = on_loop(int(case.rpartition(" ")[2]), runs, idle, beside)
        took, launched = loop.run_until_complete(many)
    time.sleep(0.01)
    print(json.dumps([took, (on_processor() - before) / launched]), flush=True)
"""


class _Worker:
    def __init__(self, place: Path) -> None:
        command = [sys.executable, "-c", _WORKER, str(place), str(rootfs.minimal()), rootfs.PROGRAM]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, case: str, runs: int, idle: float) -> tuple[list[int], float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([case, runs, idle]) + "\n")
        self._process.stdin.flush()
        took, spent = json.loads(self._process.stdout.readline())
        return took, spent

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def _load() -> Iterator[None]:
    """Two programs for each processor that do nothing but run."""
    command = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(command) for _ in range(2 * len(os.sched_getaffinity(0)))]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


def _compared(
    case: str, two: tuple[_Worker, _Worker], runs: int, idle: float, seconds: float
) -> dict[str, Any]:
    """The whole and the variant, for so long; ratios above 1 are what the mechanism gains."""
    took: tuple[list[int], list[int]] = ([], [])
    spent: tuple[list[float], list[float]] = ([], [])
    for worker in two:
        worker.ask(case, runs, 0.0)
    medians: list[float] = []
    end = time.monotonic() + seconds
    while len(medians) < _LEAST or time.monotonic() < end:
        order = [0, 1]
        random.shuffle(order)
        middle = [0.0, 0.0]
        for which in order:
            series, cpu = two[which].ask(case, runs, idle)
            took[which].extend(series)
            spent[which].append(cpu)
            middle[which] = statistics.median(series)
        medians.append(middle[1] / middle[0])
    whole, without = (figures(list(series)) for series in took)
    on_processor = [statistics.median(series) / 1e3 for series in spent]
    return {
        "whole": whole.as_dict() | {"cpu": round(on_processor[0], 1)},
        "without": without.as_dict() | {"cpu": round(on_processor[1], 1)},
        "gain": {
            "p50": round(statistics.median(medians), 3),
            "p99": round(without.p99 / whole.p99, 3),
            "cpu": round(on_processor[1] / on_processor[0], 3),
        },
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", action="append", help="a mechanism's name; may be repeated")
    text = "build nothing: the installed package is the whole, and only parts in Python are taken out"
    parser.add_argument("--installed", action="store_true", help=text)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each mechanism, case and mode")
    text = "where the builds are, and stay; what isn't there is built (default: a temporary directory)"
    parser.add_argument("--builds", type=Path, help=text)
    parser.add_argument(
        "--build", action="store_true", help="build only, measure nothing; goes with --builds"
    )
    text = "the rows of the others stay in the file: to measure one after the other"
    parser.add_argument("--add", action="store_true", help=text)


def main(options: argparse.Namespace) -> dict[str, Any]:
    wanted = [one for one in MECHANISMS if not options.only or one.name in options.only]
    if options.installed:
        wanted = [one for one in wanted if not _compiled(one)]
    seconds = 1.0 if options.quick else options.seconds
    rows = []
    with contextlib.ExitStack() as stack:
        folder = options.builds or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mechanisms-"))
        )
        whole = whole_build(folder, options.installed)
        places = [variant(folder, mechanism) for mechanism in wanted]
        if options.build:
            sys.exit(0)
        base = _Worker(whole)
        stack.callback(base.close)
        for mechanism, place in zip(wanted, places, strict=True):
            other = _Worker(place)
            try:
                for case in mechanism.cases:
                    rows.append(
                        {"mechanism": mechanism.name, "case": case, **_modes(case, (base, other), seconds)}
                    )
                    _show(rows[-1:])
            finally:
                other.close()
    kept = _rows_before(options) if options.add else []
    new = {(row["mechanism"], row["case"]) for row in rows}
    rows += [row for row in kept if (row["mechanism"], row["case"]) not in new]
    order = [(one.name, case) for one in MECHANISMS for case in one.cases]
    rows = [row for row in rows if (row["mechanism"], row["case"]) in order]
    rows.sort(key=lambda row: order.index((row["mechanism"], row["case"])))
    _show(rows)
    return {"rows": rows, "seconds": seconds, "runs": _RUNS}


def _rows_before(options: argparse.Namespace) -> list[dict[str, Any]]:
    path = options.results / ("mechanisms.quick.json" if options.quick else "mechanisms.json")
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def _modes(case: str, two: tuple[_Worker, _Worker], seconds: float) -> dict[str, Any]:
    # After idleness: what waits for the kernel's grace periods shows only then. So few runs fit in
    # there that it lasts twice as long.
    found = {"idle": _compared(case, two, _RUNS // 4, IDLE_SECONDS, 2 * seconds)}
    found["busy"] = _compared(case, two, _RUNS, 0.0, seconds)
    with _load():
        found["loaded"] = _compared(case, two, _RUNS, 0.0, seconds)
    return found


def _show(rows: list[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        for mode in ("idle", "busy", "loaded"):
            found = row[mode]
            cells.append(
                [f"{row['mechanism']}, {row['case']}, {mode}"]
                + [found["whole"][what] for what in ("p50", "p99", "cpu")]
                + [found["gain"][what] for what in ("p50", "p99", "cpu")]
            )
    header = ("without: us of the whole, times as much", "p50", "p99", "CPU", "x p50", "x p99", "x CPU")
    report.show(report.table("mechanisms", header, cells))
