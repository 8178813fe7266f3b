"""Real programs in real Debian roots, with the default options: as root, as a user, in a private user namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from tests.programs import roots

MODES: dict[str, dict[str, Any]] = {
    "root": {},
    "user": {"user": "1000", "env": {"HOME": "/tmp"}},
    "private": {"userns": "private"},
}

Program = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(str(item.fspath)).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.programs)


def _root(name: str) -> str:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        return str(roots.root(name))
    except roots.CannotMake as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tools() -> str:
    """The root with compilers, servers and what administrators type."""
    if os.geteuid() == 0:
        roots.begin("runtimes")
    return _root("tools")


@pytest.fixture(scope="session")
def runtimes() -> str:
    """The root with the JVM, Go, Rust, a browser and ffmpeg."""
    return _root("runtimes")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    return MODES[request.param]


@pytest.fixture(params=["root", "private"])
def root_mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    """For what only root does."""
    return MODES[request.param]


def shell(script: str, image: str, mode: dict[str, Any], **options: Any) -> str:
    """What ``script`` writes to stdout in a container of ``mode``; it must succeed."""
    env = {**mode.get("env", {}), **options.pop("env", {})}
    options = {"cwd": "/tmp", "timeout": 600, **mode, **options, "env": env}
    r = pyminicon.run(["sh", "-euc", script], image=image, capture_output=True, text=True, **options)
    assert r.returncode == 0, f"{r.returncode}: {r.stdout[-2000:]}\n{r.stderr[-3000:]}"
    out: str = r.stdout
    return out
