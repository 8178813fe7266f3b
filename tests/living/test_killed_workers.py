"""``kill -9 -1`` by root inside takes workers along as well: a command that one of them had, and that never began, is
sent again, and none is ever run twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from typing import Any

import pytest

import pyminicon
from tests.living.conftest import names
from tests.living.test_memory import limited
from tests.support.threads import in_threads
from tests.support.waiting import soon

ALL = ["sh", "-c", "kill -9 -1"]
ROUNDS = 200
#: With a cgroup of v2 and after a pause there is a runner as well.
HOMES = [
    pytest.param({}, id="without a cgroup"),
    pytest.param({"usage": True}, id="with one", marks=limited),
]


@pytest.fixture(params=HOMES)
def box(request: pytest.FixtureRequest) -> Any:
    with pyminicon.start(image="host", user="0", **request.param) as c:
        yield c


def after_a_pause(turn: int) -> None:
    time.sleep(0.013 if turn % 2 else 0)


def test_a_command_after_it_runs(box: Any) -> None:
    wrong = []
    for turn in range(ROUNDS):
        after_a_pause(turn)
        box.run(ALL, timeout=30)
        r = box.run(["echo", "x"], capture_output=True, timeout=30)
        if (r.returncode, r.stdout) != (0, b"x\n"):
            wrong.append((turn, r))
    assert wrong == [] and box.poll() is None


def test_one_that_is_started_after_it_runs(box: Any) -> None:
    wrong = []
    for turn in range(ROUNDS):
        after_a_pause(turn)
        box.run(ALL, timeout=30)
        with box.start(["cat"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE) as p:
            told = p.communicate(b"x", timeout=30)[0]
        if (p.returncode, told) != (0, b"x"):
            wrong.append((turn, p.returncode, told))
    assert wrong == [] and box.poll() is None


@pytest.mark.parametrize("own", HOMES)
def test_in_aio_as_well(own: dict[str, Any]) -> None:
    async def rounds() -> list[Any]:
        wrong: list[Any] = []
        async with await pyminicon.aio.start(user="0", **own) as c:
            for turn in range(ROUNDS // 2):
                await asyncio.sleep(0.013 if turn % 2 else 0)
                await c.run(ALL, timeout=30)
                r = await c.run(["echo", "x"], capture_output=True, timeout=30)
                if (r.returncode, r.stdout) != (0, b"x\n"):
                    wrong.append((turn, r))
        return wrong

    assert asyncio.run(rounds()) == []


def test_commands_go_on_beside_who_works_on_files(box: Any) -> None:
    """Who does that may have taken the last worker that there is, when a runner is sent ahead."""
    for _ in range(60):
        with contextlib.suppress(OSError):  # who worked on files was killed as well
            box.path("/tmp/file").write_text("x")
        box.run(ALL, timeout=30)

    def written() -> bool:
        with contextlib.suppress(OSError):  # killed, and not dead when it was asked
            box.path("/tmp/other").write_text("x")
            return True
        return False

    assert soon(written)
    assert box.run(["cat", "/tmp/other"], capture_output=True, timeout=30).stdout == b"x"


def test_what_was_killed_after_it_began_is_run_once_and_told_of(box: Any) -> None:
    told: list[tuple[int, int]] = []
    over = time.monotonic() + 6
    numbers = iter(range(10**6))

    def killer() -> None:
        while time.monotonic() < over:
            box.run(ALL, timeout=30)
            time.sleep(0.002)

    def writer(_: int) -> None:
        while time.monotonic() < over:
            number = next(numbers)
            try:
                r = box.run(["sh", "-c", f"echo {number} >> /tmp/began; sleep 0.001"], timeout=30)
            except pyminicon.LaunchError as error:  # whoever was to begin it was killed each time
                assert "killed each time" in str(error)
                told.append((number, 1))
                continue
            told.append((number, r.returncode))

    thread = threading.Thread(target=killer)
    thread.start()
    in_threads(3, writer)
    thread.join()
    assert soon(lambda: names(box) == [])
    began = Counter(int(line) for line in box.path("/tmp/began").read_text().split())
    assert max(began.values()) == 1
    assert {returncode for _, returncode in told} <= {0, -9, 1}
    assert [number for number, returncode in told if returncode == 0 and not began[number]] == []
    assert [number for number, returncode in told if returncode == 1 and began[number]] == []
    assert any(returncode == 0 for _, returncode in told)


def test_no_descriptor_is_left_of_those_that_were_sent_again(box: Any) -> None:
    def count() -> int:
        """But for the files of cgroups that are kept for commands to come."""
        found = [name for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}")]
        return len([name for name in found if "/cgroup/" not in os.readlink(f"/proc/self/fd/{name}")])

    def rounds(many: int) -> None:
        for _ in range(many):
            box.run(ALL, timeout=30)
            assert box.run(["true"], timeout=30).returncode == 0

    rounds(30)
    before = count()
    rounds(60)
    assert soon(lambda: count() <= before + 8)  # the counts of spare cgroups, of a few more or fewer


def test_in_a_kept_container_as_well() -> None:
    with pyminicon.start(detach=True, user="0") as c:
        try:
            for turn in range(40):
                after_a_pause(turn)
                c.run(ALL, timeout=30)
                assert c.run(["echo", "x"], capture_output=True, timeout=30).stdout == b"x\n"
        finally:
            c.kill()
