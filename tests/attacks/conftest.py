"""What every attack needs: the hostile program, a way in (cold or from a template), and a way to compare."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.options import parse as spec

SOURCE = Path(__file__).with_name("attack.c")
Run = Callable[..., Any]


@pytest.fixture(scope="session")
def attack() -> Iterator[Path]:
    """attack.c, built static: it runs in any root and outside, for every user."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs gcc to build the hostile program")
    with tempfile.TemporaryDirectory(prefix="pyminicon-attack-", dir="/var/tmp") as place:
        made = Path(place) / "attack"
        subprocess.run([compiler, "-static", "-O1", "-Wall", "-o", made, SOURCE], check=True)
        made.parent.chmod(0o755)
        made.chmod(0o755)
        yield made


@pytest.fixture(params=["cold", "template"])
def inside(request: pytest.FixtureRequest) -> Run:
    """``inside(args, **options)``: pyminicon.run, or the same from the stock of a template."""

    def run(args: Any, **options: Any) -> Any:
        options = {"capture_output": True, "text": True, "timeout": 60, **options}
        if request.param == "cold":
            return pyminicon.run(args, **options)
        each = {name: options.pop(name) for name in list(options) if name in spec.EACH_RUN}
        with pyminicon.Template(stock=1, **options) as template:
            return template.run(args, **each)

    return run


@pytest.fixture
def hostile(inside: Run, attack: Path) -> Run:
    """``hostile("ptrace", "1")``: what the hostile program found inside, {name: (return, errno)}."""

    def run(*words: Any, **options: Any) -> dict[str, tuple[int, int]]:
        volumes = [*options.pop("volumes", []), f"{attack}:/attack:ro"]
        return parse(inside(["/attack", *map(str, words)], volumes=volumes, **options))

    return run


@pytest.fixture
def outside(attack: Path) -> Run:
    """The same program on the host: what it finds where nothing protects."""

    def run(*words: Any, before: tuple[str, ...] = (), **options: Any) -> dict[str, tuple[int, int]]:
        made = subprocess.run(
            [*before, attack, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **options,
        )
        return parse(made)

    return run


def parse(result: Any) -> dict[str, tuple[int, int]]:
    assert result.stdout, f"the hostile program said nothing: {result!r}"
    found = {}
    for line in result.stdout.splitlines():
        name, *values = line.split()
        found[name] = (int(values[0]), int(values[1])) if len(values) == 2 else (int(values[0]), 0)
    return found


@pytest.fixture
def running(attack: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Host processes of the hostile program that go on until the test's end."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: Any, **options: Any) -> subprocess.Popen[str]:
        piped: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([attack, *map(str, words)], **{**piped, **options}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
