"""What runs inside, as the caller sees it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.support.placement import needs_limit
from tests.support.waiting import soon

Home = Any


def test_it_has_each_process_and_none_of_ours(home: Home) -> None:
    assert home.processes() == []
    with home.start(["sh", "-c", "sleep 71 & exec sleep 72"]) as p:
        assert soon(
            lambda: [one.command_line for one in home.processes()] == [["sleep", "72"], ["sleep", "71"]]
        )
        assert soon(lambda: home.processes()[0].state == "S")  # it had yet to begin its nap
        first, second = home.processes()
        assert (first.pid, second.ppid) == (p.pid, p.pid)
        assert first.cpu_seconds >= 0 and first.resident_bytes > 0
        assert "sleep" in repr(first)
    home.close()
    with pytest.raises(pyminicon.ContainerEnded):
        home.processes()


def test_users_are_those_inside() -> None:
    with pyminicon.start() as c, c.start(["sleep", "70"]):
        assert [one.user for one in c.processes()] == ["root"]
    if os.geteuid() == 0:
        with (
            pyminicon.start() as c,
            c.start(["sleep", "70"], user="nobody"),
            c.start(["sleep", "71"], user="4321"),
        ):
            assert sorted(one.user for one in c.processes()) == ["4321", "nobody"]


def lines(c: Any) -> list[list[str]]:
    return [one.command_line for one in c.processes()]


def test_a_program_that_is_pid_1_is_among_them() -> None:
    with pyminicon.start(["sleep", "70"]) as c:
        assert soon(lambda: lines(c) == [["sleep", "70"]])
        assert [(one.pid, one.ppid) for one in c.processes()] == [(1, 0)]
    with pyminicon.start(["sleep", "70"], init=True) as c:
        assert soon(lambda: lines(c) == [["sleep", "70"]])


def test_on_a_loop() -> None:
    async def work() -> None:
        async with await aio.start() as c, await c.start(["sleep", "70"]):
            await asyncio.sleep(0.1)
            assert [one.ppid > 1 for one in await c.processes()] == [True]

    asyncio.run(work())


@pytest.mark.parametrize("options", [{}, {"usage": True}], ids=str)
def test_who_works_on_files_is_none_of_them_and_a_name_hides_nobody(options: dict[str, Any]) -> None:
    if options:
        needs_limit("usage", True)
    rename = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'pyminicon-work'); print(flush=True); time.sleep(99)"
    with pyminicon.start(image="python", **options) as c:
        (c.path("/tmp") / "file").write_text("x")
        c.run(["true"])
        assert c.processes() == []
        with c.start(["python", "-c", rename], stdout=pyminicon.PIPE) as named:
            assert named.stdout is not None and named.stdout.readline() == b"\n"
            assert [one.pid for one in c.processes()] == [named.pid]
        assert c.processes() == []


def test_none_is_missed_while_others_end() -> None:
    with pyminicon.start(image="host") as c:
        script = "sleep 100 & while :; do for i in 1 2 3 4 5 6 7 8; do true & done; wait $(jobs -p | tail -n 8); done"
        with c.start(["sh", "-c", script]) as busy, c.start(["sleep", "99"]) as other:
            assert soon(lambda: ["sleep", "100"] in [one.command_line for one in c.processes()])
            for _ in range(300):
                found = [one.command_line for one in c.processes()]
                assert ["sleep", "99"] in found and ["sleep", "100"] in found, found
            assert busy.poll() is None and other.poll() is None
