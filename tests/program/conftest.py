"""What the tests of pyminicon inside a program share: programs to embed it in, and what is alive afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.loops import nothing_blocks
from tests.support.processes import is_dying

REPO = Path(__file__).resolve().parents[2]
#: Seconds in which a container must be gone when the process that started it has died.
GONE_WITHIN = 1.0

_marks = itertools.count(os.getpid() * 1000 + 700_000_000)


def alive(mark: str) -> list[int]:
    """Processes of this machine with ``mark`` in their command line; zombies have none."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line and int(name) != os.getpid() and b"MARKED" not in line:
            found.append(int(name))
    return found


def gone_after(mark: str, within: float = GONE_WITHIN) -> float | None:
    """Seconds until nothing with ``mark`` runs any more; None if there is something then that nobody has killed
    ``within`` that time, or that doesn't come to its end."""
    begun = time.monotonic()
    doubts = 0
    while left := alive(mark):
        passed = time.monotonic() - begun
        doubts += passed > within and not all(map(is_dying, left))
        if doubts > 1 or passed > within + 10:  # between its signal and its end it shows neither
            return None
        time.sleep(0.02)
    return time.monotonic() - begun


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO)}


class Program:
    """A Python program in a process of its own. ``MARKED`` in it becomes this test's mark."""

    def __init__(self, code: str, mark: str, **options: object) -> None:
        # The mark must not be in the program's own command line, where alive() looks.
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("start_new_session", True)
        before: list[str] = options.pop("before", [])  # type: ignore[assignment]
        self.process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            [*before, sys.executable, "-c", "import os; MARK = os.environ['TEST_MARK']\n" + code],
            text=True,
            env={**environment(), "TEST_MARK": mark},
            **options,
        )

        # A program that hangs fails its test, and not the whole run.
        self._alarm = threading.Timer(150, self.kill)
        self._alarm.daemon = True
        self._alarm.start()

    def kill(self) -> None:
        """Ends it and all of its session: forked workers, too."""
        self._alarm.cancel()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def line(self) -> str:
        """Its next line; "" when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, timeout: float = 60) -> tuple[int, str]:
        """Its exit status and what is left of its output."""
        assert self.process.stdout is not None
        late = threading.Timer(timeout, self.kill)
        late.start()
        try:
            out = self.process.stdout.read()  # communicate() would pass over what line() has read ahead
        finally:
            late.cancel()
        return self.process.wait(timeout), out


@pytest.fixture
def mark() -> str:
    """A number that is in no other command line: an argument of sleep."""
    return str(next(_marks))


@pytest.fixture
def program(mark: str) -> Iterator[Callable[..., Program]]:
    """``program(code)`` starts a Python program that has this test's mark as MARK."""
    running: list[Program] = []

    def start(code: str, **options: object) -> Program:
        running.append(Program(code, mark, **options))
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.process.wait()
        for stream in (one.process.stdin, one.process.stdout, one.process.stderr):
            if stream is not None:
                stream.close()
    assert gone_after(mark, 5) is not None, "a container outlived its program"


@pytest.fixture(scope="session", autouse=True)
def _watchdog() -> None:
    """The thread that holds the limits of started containers is the process's own: made before the counting."""
    import pyminicon

    with pyminicon.start(["/bin/true"], wall_time=60) as box:
        box.wait()


@pytest.fixture(autouse=True)
def _nothing_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """On an event loop's thread nothing of ours waits for a file system."""
    if not request.module.__name__.rpartition(".")[2].startswith("test_aio"):
        yield
        return
    with nothing_blocks():
        yield


@pytest.fixture(autouse=True)
def _account(leftovers: None) -> None:
    """Every test here accounts for what it leaves in this process and on this machine."""
