"""``cli``: ``python -m pyminicon run`` in a clean venv with an installed wheel, against a bare
interpreter, ``python -m`` of an empty package, and runc."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import build, report, rootfs
from .contestants import Ground
from .measure import IDLE_SECONDS, Case, Figures, in_turns
from .peers import oci_case, runnable, spawned

SOURCE = Path(__file__).resolve().parent.parent


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_wheel(python: str, folder: Path) -> Path:
    """Build the wheel for ``python`` out of the source tree."""
    command = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(SOURCE)]
    subprocess.run(command, check=True)
    return next(folder.glob("pyminicon-*.whl"))


def make_venv(python: str, folder: Path, wheel: Path | None) -> Path:
    """A clean venv with the wheel and an empty package; returns its interpreter."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = str(folder / "bin" / "python")
    wheel = wheel or make_wheel(python, folder)
    subprocess.run([inside, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(_output([inside, "-c", query]))
    (site / "emptypkg").mkdir()
    (site / "emptypkg" / "__init__.py").write_text("")
    (site / "emptypkg" / "__main__.py").write_text("")
    return Path(inside)


def interpreter(python: str, fresh: bool) -> Path:
    """The venv's interpreter: kept under build/bench unless ``fresh`` or another commit."""
    commit = _output(["git", "-C", str(SOURCE), "rev-parse", "HEAD"])
    key = hashlib.sha256(f"{python} {commit}".encode()).hexdigest()[:12]
    folder = build.CACHE / f"venv-{key}"
    if fresh and folder.exists():
        shutil.rmtree(folder)
    inside = folder / "bin" / "python"
    if (folder / "ready").exists():
        return inside
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="pyminicon-bench-") as wheels:
        make_venv(python, folder, make_wheel(python, Path(wheels)))
    (folder / "ready").touch()
    return inside


def _cases(python: Path, root: str) -> list[Case]:
    name = str(python)
    run = [name, "-m", "pyminicon", "run"]
    return [
        Case("python -c pass", spawned([name, "-c", "pass"])),
        Case("python -c 'import pyminicon'", spawned([name, "-c", "import pyminicon"])),
        Case("python -m emptypkg", spawned([name, "-m", "emptypkg"])),
        Case("python -m pyminicon run", spawned([*run, root, rootfs.PROGRAM])),
        Case("python -m pyminicon run --read-only", spawned([*run, "--read-only", root, rootfs.PROGRAM])),
        Case("pyminicon run", spawned([str(python.with_name("pyminicon")), "run", root, rootfs.PROGRAM])),
    ]


def _rows(busy: dict[str, Figures], idle: dict[str, Figures]) -> list[dict[str, Any]]:
    rows = []
    for name, found in busy.items():
        row: dict[str, Any] = {"name": name, "busy": found.as_dict()}
        if name in idle:
            row["idle"] = idle[name].as_dict()
        for base in ("python -c pass", "python -m emptypkg"):
            row.setdefault("ratio", {})[base] = round(found.p50 / busy[base].p50, 3)
        rows.append(row)
    return rows


def show(version: str, rows: list[dict[str, Any]], missing: dict[str, str]) -> None:
    """Milliseconds, and times the two bare interpreters."""
    body = [
        [r["name"], r["busy"]["p50"] / 1e3, r["busy"]["p99"] / 1e3, *r["ratio"].values(),
         r["idle"]["p50"] / 1e3 if "idle" in r else None]
        for r in rows
    ]  # fmt: skip
    header = ("command", "p50", "p99", "x -c pass", "x -m emptypkg", "idle p50")
    report.show(report.table(f"cli under {version} (milliseconds)", header, body))
    for name, why in missing.items():
        report.show(f"  {name} could not run: {why}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cli``."""
    parser.add_argument("--python", action="append", help="an interpreter to try; may be repeated")
    parser.add_argument("--fresh", action="store_true", help="build wheel and venv anew")


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    rounds, idle_rounds, budget = (20, 3, 20.0) if options.quick else (150, 20, 120.0)
    body: dict[str, Any] = {"unit": "us", "pythons": {}}
    root = str(rootfs.minimal())
    for python in options.python or [sys.executable]:
        venv = interpreter(python, options.fresh)
        query = [str(venv), "-c", "import platform; print(platform.python_version())"]
        version = _output(query)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyminicon-bench-")))
            cases = _cases(venv, root)
            if shutil.which("runc"):
                cases.append(oci_case("runc", "runc run", Ground(root, b"", -1, -1, -1), folder, False))
            cases, missing = runnable(cases)
            busy = in_turns(cases, rounds, budget=budget)
            idle = in_turns(cases, idle_rounds, idle=IDLE_SECONDS, budget=budget)
        rows = _rows(busy, idle)
        show(version, rows, missing)
        body["pythons"][version] = {"rows": rows, "missing": missing}
    return body
