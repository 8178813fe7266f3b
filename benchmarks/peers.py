"""``peers``: the same container through the tools people use today, in turns."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import bundles, report, rootfs
from .contestants import (
    DEFAULTS,
    DEFAULTS_READ_ONLY,
    Ground,
    bare_case,
    checked,
    default_filter,
    floor_case,
    product_case,
)
from .ground import network_namespace, own_memory_cgroup
from .measure import IDLE_SECONDS, Case, Figures, in_turns, timed
from .rooms import UnifiedRoom

_counter = itertools.count()


def spawned(command: list[str], *, fds: dict[int, str] | None = None) -> Callable[[], int]:
    """Time a command from posix_spawn to the end of its wait; fds: a file to open as that number."""
    path = shutil.which(command[0]) or command[0]
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, fd, name, os.O_RDONLY, 0) for fd, name in (fds or {}).items()]
    env = {"PATH": os.environ.get("PATH", os.defpath)}

    def call() -> None:
        arguments = [part.replace("{id}", f"bench-{os.getpid()}-{next(_counter)}") for part in command]
        status = os.waitpid(os.posix_spawn(path, arguments, env, file_actions=actions), 0)[1]
        if status:
            raise RuntimeError(f"{command[0]} ended with wait status {status:#x}")

    return timed(call)


def _bwrap(ground: Ground, seccomp: Path | None) -> Case:
    command = ["bwrap", *(f"--unshare-{n}" for n in ("ipc", "pid", "net", "uts", "cgroup"))]
    command += ["--ro-bind", ground.root, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm"]
    command += ["--mqueue", "/dev/mqueue", "--hostname", "box", "--new-session", "--die-with-parent"]
    command += ["--cap-drop", "ALL", *itertools.chain(*(("--cap-add", cap) for cap in bundles.CAPS))]
    if seccomp:
        command += ["--seccomp", "9"]
    fds = {9: str(seccomp)} if seccomp else None
    return Case("bwrap", spawned([*command, "--", rootfs.PROGRAM], fds=fds))


def _unshare(ground: Ground) -> Case:
    flags = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "--mount-proc=/proc"]
    return Case("unshare", spawned(["unshare", *flags, f"--root={ground.root}", rootfs.PROGRAM]))


def oci_case(runtime: str, name: str, ground: Ground, folder: Path, with_seccomp: bool) -> Case:
    options = {"cgroup": f"/{runtime}-bench", "with_seccomp": with_seccomp}
    bundle = bundles.write(folder / name.replace(" ", "-"), ground.root, **options)
    state = str(folder / f"{runtime}-state")
    return Case(name, spawned([runtime, "--root", state, "run", "--bundle", str(bundle), "{id}"]))


def _oci_cases(ground: Ground, folder: Path, room: UnifiedRoom) -> list[Case]:
    cases = []
    kinds = [("", False)] + ([(" + seccomp", True)] if bundles.seccomp() else [])
    for suffix, with_seccomp in kinds:
        if shutil.which("crun"):
            inner = oci_case("crun", f"crun{suffix}", ground, folder, with_seccomp)
            cases.append(Case(inner.name, room.wrap(inner.run)))
        if shutil.which("runc"):
            cases.append(oci_case("runc", f"runc{suffix}", ground, folder, with_seccomp))
    return cases


def _product_cases(ground: Ground) -> list[Case]:
    command = [sys.executable, "-m", "pyminicon", "run"]
    return [
        product_case(ground, "pyminicon.run"),
        product_case(ground, "pyminicon.run read_only", read_only=True),
        Case("python -m pyminicon run", spawned([*command, ground.root, rootfs.PROGRAM])),
    ]


def _template_cases(ground: Ground, stack: contextlib.ExitStack) -> list[Case]:
    import pyminicon

    cases = []
    for name, options in (("Template.run", {}), ("Template.run read_only", {"read_only": True})):
        template = stack.enter_context(pyminicon.Template(image=ground.root, **options))
        cases.append(Case(name, timed(checked(template.run, [rootfs.PROGRAM]))))
    return cases


def contestants(ground: Ground, folder: Path, stack: contextlib.ExitStack) -> list[Case]:
    """Everyone who is installed here."""
    seccomp = folder / "filter.bpf"
    seccomp.write_bytes(ground.filter)
    program = ground.root + rootfs.PROGRAM
    cases = [
        bare_case(ground),
        Case("subprocess.run bare", timed(lambda: subprocess.run([program], check=True))),
        floor_case(ground, "C++ floor", DEFAULTS),
        floor_case(ground, "C++ floor read_only", DEFAULTS_READ_ONLY),
    ]
    with contextlib.suppress(ImportError, AttributeError):
        cases += _product_cases(ground)
        cases += _template_cases(ground, stack)
    if shutil.which("unshare"):
        cases.append(_unshare(ground))
    if shutil.which("bwrap"):
        cases.append(_bwrap(ground, seccomp if ground.filter else None))
    return cases + _oci_cases(ground, folder, stack.enter_context(UnifiedRoom()))


def runnable(cases: list[Case]) -> tuple[list[Case], dict[str, str]]:
    good, missing = [], {}
    for case in cases:
        try:
            case.run()
        except Exception as error:
            missing[case.name] = f"{type(error).__name__}: {error}"
        else:
            good.append(case)
    return good, missing


OURS = ("pyminicon.run", "pyminicon.run read_only", "Template.run", "Template.run read_only")


def _rows(busy: dict[str, Figures], idle: dict[str, Figures]) -> list[dict[str, Any]]:
    rows = []
    for name, found in sorted(busy.items(), key=lambda item: item[1].p50):
        row: dict[str, Any] = {"name": name, "busy": found.as_dict()}
        if name in idle:
            row["idle"] = idle[name].as_dict()
        for mode, series in (("busy", busy), ("idle", idle)):
            if name in series:
                times = {our: round(series[name].p50 / series[our].p50, 2) for our in OURS if our in series}
                row.setdefault("times_ours", {})[mode] = times
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]], missing: dict[str, str]) -> None:
    """Print who takes how long, and how many times ours that is."""
    body = []
    for row in rows:
        figures: list[Any] = [row["name"]]
        for mode in ("busy", "idle"):
            found, times = row.get(mode, {}), row.get("times_ours", {}).get(mode, {})
            figures += [found.get("p50"), found.get("p99")]
            figures += [times.get("pyminicon.run"), times.get("Template.run")]
        body.append(figures)
    header = ("contestant", "p50", "p99", "x run", "x Template", "idle p50", "p99", "x run", "x Template")
    title = "peers (microseconds; x: times ours; idle: after 100 ms of sleep)"
    report.show(report.table(title, header, body))
    for name, why in missing.items():
        report.show(f"  {name} could not run: {why}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``peers`` has no options of its own."""


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    rounds, idle_rounds, budget = (25, 5, 15.0) if options.quick else (300, 40, 180.0)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyminicon-bench-")))
        memory = stack.enter_context(own_memory_cgroup())
        netns = stack.enter_context(network_namespace())
        ground = Ground(str(rootfs.minimal()), default_filter(), memory, -1, netns)
        cases, missing = runnable(contestants(ground, folder, stack))
        busy = in_turns(cases, rounds, budget=budget)
        idle = in_turns(cases, idle_rounds, idle=IDLE_SECONDS, budget=budget)
    rows = _rows(busy, idle)
    show(rows, missing)
    return {"unit": "us", "rows": rows, "missing": missing}
