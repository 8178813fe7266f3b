"""``fixtures``: what a container costs a test that asks pytest for one, beside a test with a fixture that does nothing.

All of a test is timed, from its protocol's begin to its end, in one pytest whose tests stand in blocks, as they do in a
file: a template's warm pool has no time to fill between two of a block. The blocks come in random order.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import report, rootfs
from .measure import figures

_BLOCK = 25  # tests of a kind in a row
_BARE = "a fixture that does nothing"
#: What each row's tests do: the fixture they ask for, and with it what.
_KINDS = {
    _BARE: ("nothing", "pass"),
    "container_template, and a run": (
        "container_template",
        "assert container_template.run([{program!r}]).returncode == 0",
    ),
    "container": ("container", "assert container.pid"),
    "container, and a command in it": (
        "container",
        "assert container.run([{program!r}]).returncode == 0",
    ),
}
_CONFTEST = """
import json, random, time
import pytest

TOLD = {}

@pytest.fixture
def nothing():
    yield

def pytest_collection_modifyitems(items):
    blocks = {}
    for item in items:
        number = item.callspec.params["number"]
        blocks.setdefault((item.originalname, number // BLOCK), []).append(item)
    order = list(blocks.values())
    random.Random(20).shuffle(order)
    items[:] = [item for block in order for item in block]

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    begun = time.perf_counter_ns()
    outcome = yield
    TOLD.setdefault(item.originalname, []).append(time.perf_counter_ns() - begun)
    return outcome

def pytest_sessionfinish():
    with open("told.json", "w") as file:
        json.dump(TOLD, file)
"""


def measured(number: int, root: str) -> dict[str, list[int]]:
    """Nanoseconds of each test, by its kind's name."""
    names = {f"test_{index}": kind for index, kind in enumerate(_KINDS)}
    lines = ["import pytest"]
    for name, kind in names.items():
        fixture, does = _KINDS[kind]
        lines += [
            f"@pytest.mark.parametrize('number', range({number}))",
            f"def {name}({fixture}, number):",
            f"    {does.format(program=rootfs.PROGRAM)}",
        ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "conftest.py").write_text(f"BLOCK = {_BLOCK}\n{_CONFTEST}")
        (place / "test_them.py").write_text("\n".join(lines) + "\n")
        (place / "pytest.ini").write_text(f"[pytest]\ncontainer_image = {root}\n")
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr}")
        told = json.loads((place / "told.json").read_text())
    return {kind: told[name][_BLOCK:] for name, kind in names.items()}  # the first ones warm up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how many tests there are."""
    parser.add_argument("--tests", type=int, default=1000, help="of each kind")


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    number = 100 if options.quick else options.tests
    found = {kind: figures(values) for kind, values in measured(number, str(rootfs.minimal())).items()}
    bare = found[_BARE].p50
    rows = [
        {"name": kind, **one.as_dict(), "more_ms": round((one.p50 - bare) / 1e3, 3)}
        for kind, one in found.items()
    ]
    cells = [[row[name] for name in ("name", "p50", "p90", "p99", "least", "more_ms")] for row in rows]
    title = f"fixtures (a test in microseconds, {number} of each)"
    report.show(report.table(title, ("", "p50", "p90", "p99", "least", "more at p50, ms"), cells))
    return {"unit": "us", "tests": number, "rows": rows}
