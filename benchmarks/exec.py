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

from . import bundles, density, report, rootfs
from .flat import compare, workers
from .measure import Case, Figures, in_turns, timed
from .rooms import UnifiedRoom

_THREADS = 32


def _others(runtime: str, root: str, folder: Path, stack: contextlib.ExitStack) -> Case:
    """``crun exec`` and ``runc exec`` into a container that sleeps. crun refuses cgroup v1 beside v2."""
    room = stack.enter_context(UnifiedRoom()) if runtime == "crun" else None

    def call(function: Callable[[], Any]) -> Any:
        return function() if room is None else room.call(function)

    bundle = bundles.write(folder / runtime, root, cgroup=f"/{runtime}-bench-exec", with_seccomp=False)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["args"] = [rootfs.PROGRAM, "s"]  # it sleeps
    path.write_text(json.dumps(config))
    words = [runtime, "--root", str(folder / f"{runtime}-state")]
    name = f"bench-exec-{os.getpid()}"
    begin = [*words, "run", "--detach", "--bundle", str(bundle), name]
    call(lambda: subprocess.run(begin, check=True, stdin=subprocess.DEVNULL))
    stack.callback(lambda: call(lambda: subprocess.run([*words, "delete", "--force", name], check=False)))
    command = [*words, "exec", name, rootfs.PROGRAM]
    run = timed(lambda: subprocess.run(command, check=True))
    return Case(f"{runtime} exec", run if room is None else room.wrap(run))


def _podman(root: str, folder: Path, stack: contextlib.ExitStack) -> Case:
    """``podman exec``, in a room of its own: its runtime refuses cgroup v1 beside v2. Limits that it would raise
    beyond this process's are named."""
    room = stack.enter_context(UnifiedRoom())
    words = ["podman", "--root", str(folder / "podman-root"), "--runroot", str(folder / "podman-run")]
    words += ["--cgroup-manager=cgroupfs", "--events-backend=none"]
    name = f"bench-exec-{os.getpid()}"
    limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]
    begin = [*words, "run", "--detach", "--name", name, "--network=none", "--cgroups=disabled", *limits]
    begin += ["--rootfs", root, rootfs.PROGRAM, "s"]  # it sleeps
    quietly: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    room.call(lambda: subprocess.run(begin, check=True, **quietly))
    end = [*words, "rm", "--force", "--time=0", name]
    stack.callback(lambda: room.call(lambda: subprocess.run(end, check=False, **quietly)))
    command = [*words, "exec", name, rootfs.PROGRAM]
    return Case("podman exec", room.wrap(timed(lambda: subprocess.run(command, check=True))))


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


def _waiting(number: int) -> dict[str, float]:
    """KiB of a container where nothing happens, by what holds them; and the processes it consists of."""
    root = str(rootfs.minimal())
    with pyminicon.start(image=root):  # what is made once isn't each one's cost
        pass
    time.sleep(1.0)  # what the kernel frees later
    before = density.memory()
    with contextlib.ExitStack() as stack:
        boxes = [stack.enter_context(pyminicon.start(image=root)) for _ in range(number)]
        time.sleep(2.0)  # until the workers have gone
        during = density.memory()
        own = [_own_pages(box.pid) for box in boxes[:: max(number // 50, 1)]]
    names = {"Slab": "kernel objects", "KernelStack": "kernel stacks", "PageTables": "page tables"}
    names |= {"Percpu": "per processor", "Shmem": "tmpfs and shared pages"}
    found = {text: round((during[name] - before[name]) / number, 1) for name, text in names.items()}
    found["pages of its processes"] = round(sum(kib for kib, _ in own) / len(own), 1)
    found["all of it"] = round(sum(found.values()), 1)
    found["processes"] = round(sum(count for _, count in own) / len(own), 1)
    return found


def _own_pages(init: int) -> tuple[int, int]:
    """KiB that no file is behind, of an init and its workers; how many these are."""
    pids = [init, *map(int, Path(f"/proc/{init}/task/{init}/children").read_text().split())]
    rows = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(row.split()[1]) for row in rows if row.startswith("RssAnon:")), len(pids)


class _Boxes:
    """The contestants; those of others only where they are measured."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.root = str(rootfs.minimal())
        self.missing: dict[str, str] = {}
        self.box = stack.enter_context(pyminicon.start(image=self.root))

    def ours(self) -> list[Case]:
        program = self.root + rootfs.PROGRAM
        cases = [
            Case("subprocess.run bare", timed(lambda: subprocess.run([program], check=True))),
            Case("c.run", timed(lambda: self.box.run([rootfs.PROGRAM], check=True))),
        ]
        limited: dict[str, dict[str, Any]] = {
            "c.run with a cgroup": {"memory": "256M"},
            "c.run with usage=True": {"usage": True},
        }
        for name, own in limited.items():
            with contextlib.suppress(pyminicon.Error):
                cases.append(self._limited(name, own))
        return cases

    def _limited(self, name: str, own: dict[str, Any]) -> Case:
        box = self.stack.enter_context(pyminicon.start(image=self.root, **own))
        return Case(name, timed(lambda: box.run([rootfs.PROGRAM], check=True)))

    def others(self) -> list[Case]:
        cases = []
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="pyminicon-bench-")))
        for runtime in ("crun", "runc", "podman"):
            if shutil.which(runtime) is None:
                self.missing[runtime] = "isn't installed"
                continue
            try:
                if runtime == "podman":
                    cases.append(_podman(self.root, folder, self.stack))
                else:
                    cases.append(_others(runtime, self.root, folder, self.stack))
            except (OSError, subprocess.CalledProcessError) as error:
                self.missing[runtime] = _why(error)
        return cases


def _why(error: OSError | subprocess.CalledProcessError) -> str:
    """Of somebody else's failure, without the names that are another run's tomorrow."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"`{error.cmd[0]} run` answers {error.returncode}"
    return str(error)


def _rows(found: dict[str, Figures]) -> list[dict[str, Any]]:
    bare = found["subprocess.run bare"].p50
    return [
        {"name": name, **one.as_dict(), "times_bare": round(one.p50 / bare, 2)} for name, one in found.items()
    ]


_PARTS = ("busy", "idle", "beside", "rates", "ends", "flat", "waiting")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds which parts are measured."""
    parser.add_argument("--only", action="append", choices=_PARTS, help="a part alone; may be repeated")
    parser.add_argument("--add", action="store_true", help="keep what the file has of the other parts")


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    quick, parts = options.quick, options.only or _PARTS
    body: dict[str, Any] = {}
    if options.add:
        path = options.results / ("exec.quick.json" if quick else "exec.json")
        body = {
            key: value for key, value in json.loads(path.read_text()).items() if key in (*_PARTS, "missing")
        }
    with contextlib.ExitStack() as stack:
        boxes = _Boxes(stack)
        ours = boxes.ours()
        if "busy" in parts:
            body["busy"] = _rows(in_turns(ours, 200 if quick else 3000, budget=5.0 if quick else 15.0))
        if "idle" in parts:
            body["idle"] = _rows(in_turns(ours, 20 if quick else 100, idle=0.1, budget=50.0))
        if "beside" in parts:
            cases = [*ours, *boxes.others()]
            body["beside"] = _rows(in_turns(cases, 50 if quick else 500, budget=5.0 if quick else 15.0))
            body["missing"] = boxes.missing
        if "rates" in parts:
            program = boxes.root + rootfs.PROGRAM
            body["rates"] = _rates(program, boxes.box, boxes.root, 1.0 if quick else 3.0)
    if "ends" in parts:
        body["ends"] = _ends(5 if quick else 31)
    if "flat" in parts:
        body["flat"] = _flat(20, 100) if quick else _flat(200, 1000)
    if "waiting" in parts:
        body["waiting"] = _waiting(50 if quick else 500)
    _show(body)
    return {"unit": "us", **body}


TITLES = {
    "busy": "one after the other",
    "idle": "each after 100 ms of sleep",
    "beside": "in turns with others that take milliseconds",
}


def _show(body: dict[str, Any]) -> None:
    header = ("contestant", "p50", "p99", "p99/p50", "x bare")
    for part, title in TITLES.items():
        rows = [
            [row["name"], row["p50"], row["p99"], round(row["p99"] / row["p50"], 2), row["times_bare"]]
            for row in body.get(part, [])
        ]
        if rows:
            report.show(report.table(f"exec, {title} (microseconds)", header, rows))
    for part, title, what in (
        ("rates", f"{_THREADS} threads (commands a second)", "rate"),
        ("ends", "the end of 100 processes (ms)", "p50"),
        ("flat", "c.run, by its caller (microseconds)", "p50"),
        ("waiting", "a container that waits (KiB)", "KiB"),
    ):
        if part in body:
            report.show(report.table(title, ("", what), list(body[part].items())))
    for name, why in body.get("missing", {}).items():
        report.show(f"  {name} could not run: {why}")
