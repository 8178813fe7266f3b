"""Detached containers, with a state directory of the test's own: whatever it leaves is seen."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, environment

PATIENCE = 60.0  # for what comes soon on a machine that has nothing else to do


def soon(what: Callable[[], Any], seconds: float = PATIENCE, left: Callable[[], Any] = lambda: "") -> Any:
    """What it comes to, once that is true. ``left``: what is said if it isn't."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"it doesn't come {left()}"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    """Whether the process is there, and no zombie that its parent hasn't looked at yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class Place:
    """The command line with one state directory."""

    def __init__(self, state: Path, store: Path) -> None:
        self.state = state
        self.store = store
        self.env = environment(PYMINICON_STATE=str(state), PYMINICON_STORE=str(store))

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("env", self.env)
        options.setdefault("timeout", 120)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, **options)

    def ok(self, *words: str, **options: Any) -> str:
        """What it prints, without the end of the line; it must succeed."""
        r = self(*words, **options)
        assert (r.returncode, r.stderr) == (0, ""), (words, r)
        return r.stdout.removesuffix("\n")

    def begin(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """The command, running."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(
            [*COMMAND, *words],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def ps(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ok("ps", "--format", "json", *words).splitlines()]

    def about(self, name: str) -> dict[str, Any]:
        """What inspect tells."""
        found: dict[str, Any] = json.loads(self.ok("inspect", name))[0]
        return found

    def layers(self) -> list[str]:
        """What is left of layers on disk."""
        scratch = self.store / "scratch"
        return os.listdir(scratch) if scratch.exists() else []

    def clear(self) -> None:
        ids = self("ps", "-aq").stdout.split()
        if ids:
            self("rm", "-f", *ids)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place of the test's own. In the end nothing is left: no container, layer, process."""
    made = Place(tmp_path / "state", tmp_path / "store")
    yield made
    made.clear()
    if made.state.exists():
        for directory in (made.state / "containers", made.state / "names"):
            # Whoever removes itself (--rm) may be at it.
            soon(
                lambda directory=directory: not os.listdir(directory),
                left=lambda directory=directory: os.listdir(directory),
            )  # type: ignore[misc]
    soon(lambda: made.layers() == [])  # a killed keeper's guards may be at it
    soon(lambda: not _ours(made.state), left=lambda: _ours(made.state))


def _ours(state: Path) -> list[str]:
    """The processes that have the test's place in their environment: its keepers, and what they have started."""
    found = []
    word = f"PYMINICON_STATE={state}\0".encode()
    for entry in os.listdir("/proc"):
        try:
            ours = entry.isdigit() and word in Path(f"/proc/{entry}/environ").read_bytes()
            if ours and int(entry) != os.getpid() and alive(int(entry)):
                found.append(f"{entry} {Path(f'/proc/{entry}/comm').read_text().strip()}")
        except OSError:
            continue
    return found


__all__ = ["PATIENCE", "Place", "alive", "soon"]
