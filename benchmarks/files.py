"""``files``: work on files of a container that lives, and the same work outside beside it."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyminicon

from . import report
from .measure import Case, in_turns, timed

_MEMORY = "/dev/shm"  # both sides in memory: what is compared is the way, not a disk


def _small(box: Any, outside: Path) -> list[Case]:
    """One operation on one small file or directory each."""
    inside = box.path("/tmp/bench")
    cases = []
    for top, side in ((inside, "inside"), (outside, "outside")):
        top.mkdir()
        (top / "file").write_text("x" * 1000)
        (top / "names").mkdir()
        for number in range(100):
            (top / "names" / str(number)).touch()
        works: dict[str, Callable[[Any], object]] = {
            "open and close": lambda top: (top / "file").open("rb", buffering=0).close(),
            "read 1 kB": lambda top: (top / "file").read_bytes(),
            "write 1 kB": lambda top: (top / "new").write_bytes(b"x" * 1000),
            "stat": lambda top: (top / "file").stat(),
            "list 100 names": lambda top: list((top / "names").iterdir()),
        }
        for name, work in works.items():
            cases.append(Case(f"{name}, {side}", timed(lambda work=work, top=top: work(top))))  # type: ignore[misc]
    return cases


def _large(box: Any, outside: Path, size: int) -> list[Case]:
    """One large file in and out, and through ``cat`` and a pipe."""
    source, copy = outside / "large", outside / "copy"
    with open(source, "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    inside = box.path("/tmp/large")
    box.copy_in(source, "/tmp/large")

    def piped() -> None:
        subprocess.run(["sh", "-c", 'cat "$0" | cat > "$1"', source, copy], check=True)

    def fresh(work: Callable[[], object]) -> Callable[[], int]:
        """With nothing at the place that is written: to free a gigabyte takes long."""

        def run() -> int:
            copy.unlink(missing_ok=True)
            return timed(work)()

        return run

    def copied_in() -> int:
        inside.unlink()
        return timed(lambda: box.copy_in(source, "/tmp/large"))()

    return [
        Case("cat through a pipe, outside", fresh(piped)),
        Case("copy in", copied_in),
        Case("copy out", fresh(lambda: box.copy_out("/tmp/large", copy))),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    size = (128 if options.quick else 1024) << 20
    with (
        pyminicon.start(storage="tmpfs:size=2g") as box,
        tempfile.TemporaryDirectory(dir=_MEMORY, prefix="pyminicon-bench-") as place,
    ):
        small = in_turns(_small(box, Path(place) / "small"), 200 if options.quick else 3000, budget=60.0)
        large = in_turns(_large(box, Path(place), size), 3 if options.quick else 20, budget=120.0, warm_up=1)
    rows: list[dict[str, Any]] = []
    for name in [name.removesuffix(", inside") for name in small if name.endswith(", inside")]:
        rows.append(
            {
                "name": name,
                "inside": small[f"{name}, inside"].as_dict(),
                "outside": small[f"{name}, outside"].as_dict(),
            }
        )
    cells = [[row["name"], row["inside"]["p50"], row["inside"]["p99"], row["outside"]["p50"]] for row in rows]
    report.show(report.table("files (microseconds)", ("", "inside p50", "p99", "outside p50"), cells))
    base = large["cat through a pipe, outside"].p50
    copies = [
        {"name": name, "bytes": size, "times_cat": round(base / found.p50, 2), **found.as_dict()}
        for name, found in large.items()
    ]
    cells = [[row["name"], round(size / row["p50"] / 1e3, 2), row["times_cat"]] for row in copies]
    report.show(report.table(f"{size >> 20} MiB", ("", "GB/s", "of cat's rate"), cells))
    return {"unit": "us", "rows": rows, "copies": copies}
