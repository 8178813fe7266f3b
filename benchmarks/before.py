"""``before``: another build beside this one, in turns: what have the changes between them cost or gained?

The rows of ``ladder``, ``cli`` and ``throughput`` that are the product's, each measured with both builds in one
run, and the stages of a launch. ``--build`` is a commit, a checkout or a directory that holds an installed package; what has to be built
for it is kept in build/bench.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from . import build, ladder, mechanisms, report, rootfs, throughput
from .contestants import Ground
from .ground import own_memory_cgroup
from .measure import IDLE_SECONDS, figures

_TOP = Path(__file__).resolve().parent.parent
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
FIRST = "cd82f4c"  # the first version: what docs/design.md compares with
PARTS = ("ladder", "cli", "throughput", "stages")
STAGES = {
    "defaults": {},
    "read-only root": {"read_only": True},
    "host network": {"network": "host"},
    "memory limit": {"memory": "64M"},
    "init": {"init": True},
}
_RUNS = 4  # in one turn
_LEAST = 6  # turns, however long they take
_WHO = ("before", "now")
_AT_ONCE = {"pyminicon.run": (1, 2, 8, 32), "Template.run": (1, 8), "pyminicon.aio.run": (1, 32)}


def commit_of(name: str) -> str:
    """The whole name of a commit."""
    command = ["git", "-C", str(_TOP), "rev-parse", "--verify", f"{name}^{{commit}}"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"--build {name}: neither a directory nor a commit: {found.stderr.strip()}")
    return found.stdout.strip()


def _installed(tree: Path, place: Path) -> Path:
    mechanisms.install(tree, place)
    return place


def build_of(name: str, kept: Path) -> tuple[Path, str]:
    """Where the build lies that ``name`` says, made there if need be, and how the table calls it."""
    given = Path(name)
    if (given / "pyminicon").is_dir() and any((given / "pyminicon").glob("_core*.so")):
        return given.resolve(), given.name
    with tempfile.TemporaryDirectory(prefix="pyminicon-bench-") as folder:
        if (given / "pyproject.toml").exists():
            return _installed(given, Path(kept, f"checkout-{os.getpid()}")), given.resolve().name
        commit = commit_of(name)
        place = kept / f"build-{commit[:12]}"
        if not place.exists():
            archive = Path(folder, "tree.tar")
            subprocess.run(["git", "-C", str(_TOP), "archive", "-o", str(archive), commit], check=True)
            tree = Path(folder, "tree")
            tree.mkdir()
            subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
            _installed(tree, place)
        return place, commit[:7]


def this_build(kept: Path) -> Path:
    """A copy of the package that this process has imported: nobody builds over it meanwhile."""
    import pyminicon

    place = kept / f"this-{os.getpid()}"
    shutil.copytree(Path(pyminicon.__file__).parent, place / "pyminicon")
    return place


# In a process of its own for each build, with that build on its path.


def _on_processor() -> float:
    """Processor time of this process, of what it has waited for, and of all below it: the guards, as it is a
    subreaper; threads of the kernel, which take namespaces apart, are in nobody's."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    spent = sum(one.ru_utime + one.ru_stime for one in both) * 1e9
    waiting = [os.getpid()]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                    spent += int(Path(f"/proc/{child}/schedstat").read_text().split()[0])
                    waiting.append(int(child))
    return spent


def _turn(call: Callable[[], int], runs: int, idle: float) -> tuple[list[int], float]:
    before, took = _on_processor(), []
    for _ in range(runs):
        time.sleep(idle)
        took.append(call())
    time.sleep(0.002)  # the guards have taken the mounts apart by then
    return took, (_on_processor() - before) / runs


def _rates(ground: Ground, stack: contextlib.ExitStack) -> dict[str, Callable[[float], float]]:
    found: dict[str, Callable[[float], float]] = {}
    for name, make in throughput.product_makers(ground, stack).items():
        for n in _AT_ONCE[name]:
            found[f"{name} {n}"] = partial(throughput.in_threads, make, n)
    for name, once in throughput.async_product_makers(ground).items():
        for n in _AT_ONCE[name]:
            found[f"{name} {n}"] = partial(throughput.in_asyncio, once, n)
    return found


def _stages(root: str, options: dict[str, Any], runs: int) -> list[list[tuple[str, int]]]:
    """Nanoseconds of each stage, of so many launches; the last is until the call's end."""
    import pyminicon

    found = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        trace = pyminicon.run([rootfs.PROGRAM], image=root, trace=True, **options).trace or []
        stamps = [*trace, ("", time.perf_counter_ns() - start)]
        found.append([(stage, then - at) for (stage, at), (_, then) in pairwise(stamps)])
    return found


def serve() -> None:
    """A line of JSON is asked, one is answered: [rung, runs, idle seconds], [rate, seconds] or ["", options, runs]."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    os.environ["PYMINICON_STORE"] = str(build.CACHE / f"store-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, os.environ["PYMINICON_STORE"], ignore_errors=True)
        memory = stack.enter_context(own_memory_cgroup())
        ground = Ground(str(rootfs.minimal()), b"", memory, -1, -1)
        rungs = {rung.name: rung for rung in ladder.rungs()}
        made: dict[str, Callable[[], int]] = {}
        rates = _rates(ground, stack)
        for line in sys.stdin:
            name, *how = json.loads(line)
            try:
                if not name:
                    answer: Any = _stages(ground.root, *how)
                elif name in rates:
                    answer = rates[name](*how)
                else:
                    if name not in made:
                        case = ladder.product(rungs[name], ground, stack)
                        assert case is not None
                        made[name] = case.run
                    answer = _turn(made[name], *how)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


class _Worker:
    """A process that has imported one build."""

    def __init__(self, place: Path) -> None:
        code = (
            "import pyminicon, sys; assert pyminicon.__file__.startswith(sys.argv[1]); "
            "from benchmarks import before; before.serve()"
        )
        env = {**os.environ, "PYTHONPATH": f"{place}:{_TOP}"}
        # From there: the tree that this process stands in has a package of the same name.
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-c", code, str(place)]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=place)

    def ask(self, *what: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the worker has ended"}')
        if isinstance(answer, dict):
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# Here: turns, and what comes of them.

Turn = Callable[[int, float], tuple[list[int], float]]


def _pair(turns: tuple[Turn, Turn], runs: int, idle: float) -> Iterator[tuple[int, list[int], float]]:
    order = [0, 1]
    random.shuffle(order)
    for which in order:
        yield (which, *turns[which](runs, idle))


def _tenth(series: list[int]) -> float:
    return sorted(series)[len(series) // 10] / 1e3


def _row(name: str, took: list[list[int]], spent: list[list[float]]) -> dict[str, Any]:
    sides = [
        {
            **figures(series).as_dict(),
            "p10": round(_tenth(series), 2),
            "cpu": round(statistics.median(cpu) / 1e3, 2),
        }
        for series, cpu in zip(took, spent, strict=True)
    ]
    ratio = {what: round(sides[1][what] / sides[0][what], 3) for what in ("p10", "p50", "p90", "p99", "cpu")}
    return {"name": name, "before": sides[0], "now": sides[1], "ratio": ratio}


def in_pairs(
    cases: dict[str, tuple[Turn, Turn]], runs: int, idle: float, seconds: float
) -> list[dict[str, Any]]:
    """Each round both builds have a turn with every case, in random order; a row for each case."""
    took: dict[str, list[list[int]]] = {name: [[], []] for name in cases}
    spent: dict[str, list[list[float]]] = {name: [[], []] for name in cases}
    names, end, rounds = list(cases), time.monotonic() + seconds, 0
    while rounds < _LEAST or time.monotonic() < end:
        rounds += 1
        random.shuffle(names)
        for name in names:
            for which, series, cpu in _pair(cases[name], runs, idle):
                took[name][which].extend(series)
                spent[name][which].append(cpu)
    return [_row(name, took[name], spent[name]) for name in cases]


def _on_ladder(
    two: tuple[_Worker, _Worker], only: str, seconds: float
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    cases: dict[str, tuple[Turn, Turn]] = {}
    missing: dict[str, str] = {}
    for rung in ladder.rungs():
        if rung.options is None or only not in rung.name:
            continue
        try:
            for worker in two:
                worker.ask(rung.name, 3, 0.0)
        except RuntimeError as error:
            missing[rung.name] = str(error)
            continue
        cases[rung.name] = (partial(two[0].ask, rung.name), partial(two[1].ask, rung.name))
    busy = in_pairs(cases, _RUNS, 0.0, seconds)
    return {"busy": busy, "idle": in_pairs(cases, 1, IDLE_SECONDS, seconds)}, missing


def _spawned(command: list[str], env: dict[str, str]) -> Turn:
    def turn(runs: int, idle: float) -> tuple[list[int], float]:
        took, spent = [], 0.0
        for _ in range(runs):
            time.sleep(idle)
            begun = time.perf_counter_ns()
            _, status, used = os.wait4(os.posix_spawn(command[0], command, env), 0)
            took.append(time.perf_counter_ns() - begun)
            spent += (used.ru_utime + used.ru_stime) * 1e9
            if status:
                raise RuntimeError(f"{' '.join(command)} ended with wait status {status:#x}")
        return took, spent / runs

    return turn


def _on_command_line(places: tuple[Path, Path], seconds: float) -> list[dict[str, Any]]:
    python, root = [sys.executable, "-P"], [str(rootfs.minimal()), rootfs.PROGRAM]
    commands = {
        "python -c 'import pyminicon'": [*python, "-c", "import pyminicon"],
        "python -m pyminicon run": [*python, "-m", "pyminicon", "run", *root],
        "python -m pyminicon run --read-only": [*python, "-m", "pyminicon", "run", "--read-only", *root],
    }
    envs = [{"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(place)} for place in places]
    cases = {name: (_spawned(words, envs[0]), _spawned(words, envs[1])) for name, words in commands.items()}
    for both in cases.values():
        for turn in both:
            turn(2, 0.0)  # its modules are compiled
    return in_pairs(cases, 1, 0.0, seconds)


def _on_throughput(two: tuple[_Worker, _Worker], windows: int, seconds: float) -> list[dict[str, Any]]:
    names = [f"{name} {n}" for name, counts in _AT_ONCE.items() for n in counts]
    found: dict[str, list[list[float]]] = {name: [[], []] for name in names}
    for _ in range(windows):
        for name in random.sample(names, len(names)):
            for which in random.sample((0, 1), 2):
                found[name][which].append(two[which].ask(name, seconds))
    rows = []
    for name, (before, now) in found.items():
        rates = [round(statistics.median(series), 1) for series in (before, now)]
        # Time for one, as in the other tables: below 1 is quicker than before.
        row = {"name": name, "before": rates[0], "now": rates[1], "ratio": round(rates[0] / rates[1], 3)}
        rows.append(row)
    return rows


def _on_stages(two: tuple[_Worker, _Worker], seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Of each stage the tenth percentile, in microseconds; the last row is the sum of those above."""
    series: dict[str, dict[str, list[list[int]]]] = {name: {} for name in STAGES}
    for worker in two:
        worker.ask("", {}, 3)
    end, rounds = time.monotonic() + seconds, 0
    while rounds < _LEAST or time.monotonic() < end:
        rounds += 1
        for name in random.sample(list(STAGES), len(STAGES)):
            for which in random.sample((0, 1), 2):
                for launch in two[which].ask("", STAGES[name], _RUNS):
                    for stage, took in launch:
                        series[name].setdefault(stage, [[], []])[which].append(took)
    found = {}
    for name, stages in series.items():
        rows = [
            {
                "stage": stage,
                **{who: round(_tenth(both[i]), 1) if both[i] else 0.0 for i, who in enumerate(_WHO)},
            }
            for stage, both in stages.items()
        ]
        whole = {who: round(sum(row[who] for row in rows), 1) for who in _WHO}
        found[name] = [*rows, {"stage": "all of them", **whole}]
    return found


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    what = ("p10", "p50", "p90", "p99", "cpu")
    cells = [
        [row["name"], row["before"]["p50"], row["now"]["p50"], *(row["ratio"][each] for each in what)]
        for row in rows
    ]
    header = (title, "before", "now", *(f"x {each}" for each in what))
    report.show(report.table(f"{title} (us; now by before)", header, cells))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``before``."""
    text = "what to measure beside this build: a commit, a checkout, or a directory with an installed package"
    text += " (default: the first version)"
    parser.add_argument("--build", default=FIRST, help=text)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be repeated")
    parser.add_argument("--rungs", default="", help="of the ladder only rungs with this in their name")
    parser.add_argument(
        "--seconds", type=float, default=45.0, help="for each part, and each mode of the ladder"
    )
    text = "the other parts stay in the file: to measure one after the other"
    parser.add_argument("--add", action="store_true", help=text)


def _parts_before(options: argparse.Namespace) -> dict[str, Any]:
    path = options.results / ("before.quick.json" if options.quick else "before.json")
    if not options.add or not path.exists():
        return {}
    body: dict[str, Any] = json.loads(path.read_text())
    return {part: body[part] for part in (*PARTS, "missing") if part in body}


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    seconds = 4.0 if options.quick else options.seconds
    build.CACHE.mkdir(parents=True, exist_ok=True)
    body: dict[str, Any] = {"unit": "us", **_parts_before(options)}
    with contextlib.ExitStack() as stack:
        before, body["build"] = build_of(options.build, build.CACHE)
        now = this_build(build.CACHE)
        stack.callback(shutil.rmtree, now)
        if before.name.startswith("checkout-"):
            stack.callback(shutil.rmtree, before)
        places, two = (before, now), (_Worker(before), _Worker(now))
        for worker in two:
            stack.callback(worker.close)
        wanted = options.only or PARTS
        if "ladder" in wanted:
            body["ladder"], body["missing"] = _on_ladder(two, options.rungs, seconds)
            for mode, rows in body["ladder"].items():
                _show(f"ladder, {mode}", rows)
            for name, why in body["missing"].items():
                report.show(f"  {name} could not run: {why}")
        if "cli" in wanted:
            body["cli"] = _on_command_line(places, seconds)
            _show("cli", body["cli"])
        if "throughput" in wanted:
            window = 0.2 if options.quick else 0.5
            windows = max(int(seconds / (window * 2 * sum(map(len, _AT_ONCE.values())))), 2)
            body["throughput"] = _on_throughput(two, windows, window)
            cells = [[row[what] for what in ("name", "before", "now", "ratio")] for row in body["throughput"]]
            header = ("at once", "before", "now", "x time")
            report.show(report.table("throughput (launches per second)", header, cells))
        if "stages" in wanted:
            body["stages"] = _on_stages(two, seconds)
            for name, rows in body["stages"].items():
                cells = [[row[what] for what in ("stage", *_WHO)] for row in rows]
                report.show(report.table(f"stages: {name} (us, tenth percentile)", ("", *_WHO), cells))
    return body
