"""The command line as its users have it: a process of its own, which must leave nothing behind."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from tests.support import leftovers as account
from tests.support import ordinary

HERE = Path(pyminicon.__file__).resolve().parents[1]  # the tree, or where it is installed
COMMAND = [sys.executable, "-m", "pyminicon"]
_PR_SET_CHILD_SUBREAPER = 36

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE), "LC_ALL": "C.UTF-8", **more}


def _reap() -> None:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a command leaves running becomes our child, and is seen; mounts and cgroups as well."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = account.children(), account.mounts(), _cgroups()
    try:
        yield
        deadline = time.monotonic() + account.PATIENCE
        while True:
            _reap()
            after = account.children(), account.mounts(), _cgroups()
            left = [sorted(now - then) for now, then in zip(after, before, strict=True)]
            if not any(left) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        assert left == [[], [], []]
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _cgroups() -> set[str]:
    """Those of processes that are no more: other programs' containers may come and go meanwhile, also in other PID
    namespaces (a cgroup's name has its owner's)."""
    found = set()
    here = str(os.stat("/proc/self/ns/pid").st_ino)
    for root, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            parts = name.split("-")
            if name.startswith("pyminicon-") and len(parts) > 3 and parts[2] == here:
                if os.path.exists(f"/proc/{parts[3]}"):
                    continue
                found.add(os.path.join(root, name))
    return found


@pytest.fixture
def cli() -> Cli:
    """``cli("run", "host", ...)`` as a finished process, its streams as text."""

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if options["stdin"] is None:
            del options["stdin"]
        options.setdefault("env", environment())
        options.setdefault("timeout", 60)
        return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, **options)

    return run


@pytest.fixture(params=["ourselves", "an ordinary user"])
def anybody(request: pytest.FixtureRequest, cli: Cli, tmp_path: Path) -> Cli:
    """The same as ``cli``, as root and as an ordinary user (once, where the tests run as one)."""
    if request.param == "ourselves":
        return cli
    if os.geteuid() != 0:
        pytest.skip("needs root to be somebody else")
    hold, home = tmp_path / "hold", tmp_path / "home"
    hold.mkdir()
    home.mkdir()
    os.chown(home, ordinary.UID, ordinary.UID)

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("timeout", 60)
        options.setdefault("env", environment(HOME=str(home)))
        argv = ordinary.command([*COMMAND, *words], hold)
        return subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/", **options)

    return run


class Started:
    """A command that runs, its stdout read line by line."""

    def __init__(self, words: tuple[str, ...], **options: Any) -> None:
        options.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            **options,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def status(self) -> int:
        return self.process.wait(timeout=60)


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    """``start("run", ...)``: a command that is still running; killed at the end if it still is."""
    started: list[Started] = []

    def begin(*words: str, **options: Any) -> Started:
        started.append(Started(words, **options))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
