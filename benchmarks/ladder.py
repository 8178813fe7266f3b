"""``ladder``: bare vfork+exec first, then one thing more a rung; the product beside the floor."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from . import build, layers, report, rootfs
from .contestants import (
    DEFAULTS,
    DEFAULTS_READ_ONLY,
    NAMESPACES,
    READ_ONLY,
    Ground,
    checked,
    default_filter,
    floor_case,
    floor_for,
    product_case,
)
from .flat import Worker
from .floor import Floor
from .ground import network_namespace, own_memory_cgroup, unified_cgroup
from .measure import IDLE_SECONDS, Case, in_turns, timed


class Rung(NamedTuple):
    """A set of steps, and (where the product can be told to do just that) its options."""

    name: str
    steps: tuple[str, ...]
    options: dict[str, Any] | None = None
    argv: tuple[str, ...] = ()
    way: str = "run"  # run, layers (an image out of the store), template, asyncio, pty, user


def _floor_rungs() -> Iterator[Rung]:
    """From nothing to a read-only container: rungs that only the floor can stand on."""
    yield Rung("bare vfork+exec", ())
    so_far: list[str] = []
    for name in NAMESPACES:
        so_far.append(name)
        yield Rung(f"+ {name}", tuple(so_far))
    for name in READ_ONLY[len(NAMESPACES) :]:
        so_far.append(name)
        # Without pivot_root the program is named by its path outside.
        yield Rung(f"+ {name}", tuple(so_far))


def _without(steps: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(step for step in steps if step not in names)


def rungs() -> list[Rung]:
    """The whole ladder, in order."""
    bare = {"read_only": True, "seccomp": "unconfined"}
    shared = {"uts": "host", "ipc": "host", "cgroupns": "host", "network": "host", "cap_add": ["ALL"]}
    few = _without(READ_ONLY, "uts", "hostname", "ipc", "cgroup", "net", "loopback")
    memory, limit = (*DEFAULTS, "cgroup_v1"), {"memory": "64M"}
    return [
        *_floor_rungs(),
        Rung("read-only root, host net uts ipc", few, {**bare, **shared}),
        Rung("read-only root, all namespaces", READ_ONLY, {**bare, "cap_add": ["ALL"]}),
        Rung("+ capabilities dropped", (*READ_ONLY, "caps"), bare),
        Rung("+ seccomp = read_only", DEFAULTS_READ_ONLY, {"read_only": True}),
        Rung("writable layer = defaults", DEFAULTS, {}),
        Rung("defaults, host network", _without(DEFAULTS, "net", "loopback"), {"network": "host"}),
        Rung("defaults + memory limit", memory, limit),
        Rung(
            "defaults + memory, read_only", (*DEFAULTS_READ_ONLY, "cgroup_v1"), {**limit, "read_only": True}
        ),
        Rung("defaults + born in a v2 cgroup", (*DEFAULTS, "cgroup_v2")),
        Rung("defaults + capture", (*DEFAULTS, "capture"), {"capture_output": True}, ("w",)),
        Rung("defaults + user namespace", (*DEFAULTS, "user_single"), {"userns": "private"}),
        Rung("defaults + user ranges", (*DEFAULTS, "user_ranges"), {"userns": "0:0:65536"}),
        Rung("defaults + time namespace", (*DEFAULTS, "time"), {"time": "private"}),
        Rung("defaults + init", DEFAULTS, {"init": True}),
        Rung("image of ten layers", DEFAULTS, {}, way="layers"),
        Rung("asyncio, defaults", DEFAULTS, {}, way="asyncio"),
        Rung("a terminal of its own", DEFAULTS, {"tty": True}, way="pty"),
        Rung("ordinary user, defaults", (*DEFAULTS, "user_single"), {}, way="user"),
        Rung("template, defaults", DEFAULTS, {}, way="template"),
        Rung("template, read_only", DEFAULTS_READ_ONLY, {"read_only": True}, way="template"),
        Rung("template, memory limit", memory, limit, way="template"),
    ]


ORDINARY = 65534  # nobody: no ranges in /etc/subuid


def _in_a_terminal(command: list[str], **options: Any) -> Any:
    import pyminicon

    with pyminicon.start(command, **options) as box:
        box.wait()
    return box


class _Loop:
    """A running loop in this thread, entered once a launch: its start-up is not the launch's."""

    def __init__(self) -> None:
        self.runner = asyncio.new_event_loop()

    def timed(self, make: Callable[[], Any]) -> Callable[[], int]:
        async def once() -> int:
            start = time.perf_counter_ns()
            result = await make()
            took = time.perf_counter_ns() - start
            if result.returncode:
                raise RuntimeError(f"the payload returned {result.returncode}")
            return took

        return lambda: self.runner.run_until_complete(once())


def product(rung: Rung, ground: Ground, stack: contextlib.ExitStack) -> Case | None:
    """What the product has to do on this rung; None where only the floor can stand."""
    if rung.options is None:
        return None
    import pyminicon

    command, name = [rootfs.PROGRAM, *rung.argv], f"product {rung.name}"
    if rung.way == "layers":
        ground = ground._replace(root=str(layers.ten()))
    if rung.way in ("run", "layers"):
        return product_case(ground, name, rung.argv, **rung.options)
    if rung.way == "template":
        template = stack.enter_context(pyminicon.Template(image=ground.root, **rung.options))
        return Case(name, timed(checked(template.run, command)))
    if rung.way == "pty":
        return Case(name, timed(checked(_in_a_terminal, command, image=ground.root, **rung.options)))
    if rung.way == "user":
        worker = Worker({"uid": ORDINARY, "cases": ["run"]})
        stack.callback(worker.close)
        return Case(name, lambda: worker.run("run"))
    loop = _Loop()
    stack.callback(loop.runner.close)
    options = rung.options
    return Case(name, loop.timed(lambda: pyminicon.aio.run(command, image=ground.root, **options)))


def _floors(rung: Rung, ground: Ground, stack: contextlib.ExitStack) -> list[Case]:
    cases = [floor_case(ground, f"floor {rung.name}", rung.steps, rung.argv)]
    if rung.way == "template":
        parked = floor_for(ground, (*rung.steps, "parked", "hold_mounts"))
        stack.callback(parked.close)
        cases.append(Case(f"prepared {rung.name}", parked.launch))
    return cases


def _possible(case: Case) -> str | None:
    """None when the case runs here, else why not (a rung that can't run is shown, not dropped)."""
    try:
        case.run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _row(rung: Rung, figures: dict[str, Any], missing: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"rung": rung.name, "steps": list(rung.steps), "way": rung.way}
    if rung.options is not None:
        row["options"] = rung.options
    for who in ("floor", "prepared", "product"):
        for mode in ("busy", "idle"):
            found = figures[mode].get(f"{who} {rung.name}")
            if found:
                row.setdefault(who, {})[mode] = found.as_dict()
        if why := missing.get(f"{who} {rung.name}"):
            row.setdefault("missing", {})[who] = why
    for mode in ("busy", "idle"):
        if mode in row.get("floor", {}) and mode in row.get("product", {}):
            ratio = row["product"][mode]["p50"] / row["floor"][mode]["p50"]
            row.setdefault("ratio", {})[mode] = round(ratio, 3)
    return row


def measure(
    ground: Ground, chosen: list[Rung], rounds: int, idle_rounds: int, budget: float
) -> list[dict[str, Any]]:
    """Every rung's floor and product in turns: first back to back, then after 100 ms of idleness."""
    with contextlib.ExitStack() as stack:
        cases: list[Case] = []
        missing: dict[str, str] = {}
        for rung in chosen:
            found = _floors(rung, ground, stack)
            try:
                ours = product(rung, ground, stack)
            except Exception as error:
                missing[f"product {rung.name}"] = f"{type(error).__name__}: {error}"
                ours = None
            for case in [*found, *([ours] if ours else [])]:
                if why := _possible(case):
                    missing[case.name] = why
                else:
                    cases.append(case)
        figures = {"busy": in_turns(cases, rounds, budget=budget), "idle": {}}
        if idle_rounds:
            figures["idle"] = in_turns(cases, idle_rounds, idle=IDLE_SECONDS, budget=budget * 2)
    return [_row(rung, figures, missing) for rung in chosen]


def floor_timeline(ground: Ground, times: int = 101) -> list[tuple[str, float]]:
    """(stage, median microseconds) of the floor's default container, from stamps in its child."""
    steps = tuple(step for step in DEFAULTS if ground.filter or step != "seccomp")
    floor = Floor(ground.root, steps, filter=ground.filter, stamped=True)
    series: dict[str, list[int]] = {}
    for _ in range(times):
        floor.launch()
        for stage, took in floor.timeline():
            series.setdefault(stage, []).append(took)
    return [(stage, round(statistics.median(took) / 1e3, 2)) for stage, took in series.items()]


_WORDS = {"signals": "hygiene", "started": "exit, undo and reap", "prepare": "prepare and clone"}


def product_timeline(ground: Ground, times: int = 101) -> list[tuple[str, float]]:
    """(stage, median microseconds) of ``pyminicon.run`` with its defaults, from ``r.trace``."""
    import pyminicon

    series: dict[str, list[int]] = {}
    for _ in range(times):
        start = time.perf_counter_ns()
        result = pyminicon.run([rootfs.PROGRAM], image=ground.root, trace=True)
        whole = time.perf_counter_ns() - start
        # A stage is stamped when it begins.
        stamps = [*(result.trace or []), ("", whole)]
        for (stage, at), (_, then) in pairwise(stamps):
            series.setdefault(_WORDS.get(stage, stage), []).append(then - at)
    return [(stage, round(statistics.median(took) / 1e3, 2)) for stage, took in series.items()]


HEADER = ("rung", "floor p50", "p99", "product p50", "p99", "ratio", "idle floor", "idle product", "ratio")


def show(rows: list[dict[str, Any]]) -> None:
    """Print the ladder as a table, and under it what could not be run."""

    def pick(row: dict[str, Any], who: str, mode: str, what: str) -> Any:
        return row.get(who, {}).get(mode, {}).get(what)

    body: list[list[Any]] = []
    for row in rows:
        ratio = row.get("ratio", {})
        body.append([
            row["rung"], *(pick(row, who, "busy", p) for who in ("floor", "product") for p in ("p50", "p99")),
            ratio.get("busy"), *(pick(row, who, "idle", "p50") for who in ("floor", "product")),
            ratio.get("idle"),
        ])  # fmt: skip
    report.show(report.table("ladder (microseconds; idle: after 100 ms of sleep)", HEADER, body))
    for row in rows:
        if "prepared" in row:
            busy = row["prepared"]["busy"]
            report.show(f"  {row['rung']}: floor of the same design p50 {busy['p50']} p99 {busy['p99']}")
        for who, why in row.get("missing", {}).items():
            report.show(f"  {row['rung']}: {who} could not run: {why}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``ladder``."""
    parser.add_argument("--only", default="", help="only rungs with this in their name")


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    os.environ["PYMINICON_STORE"] = str(build.CACHE / "store")  # nobody else's images are touched
    chosen = [rung for rung in rungs() if options.only in rung.name]
    rounds, idle_rounds, budget = (40, 5, 20.0) if options.quick else (200, 20, 80.0)
    with own_memory_cgroup() as memory, unified_cgroup() as unified, network_namespace() as netns:
        ground = Ground(str(rootfs.minimal()), default_filter(), memory, unified, netns)
        rows = measure(ground, chosen, rounds, idle_rounds, budget)
        timeline = {"C++ floor": floor_timeline(ground)}
        with contextlib.suppress(ImportError, AttributeError):
            timeline["pyminicon.run"] = product_timeline(ground)
    show(rows)
    return {"unit": "us", "rows": rows, "timeline": timeline}
