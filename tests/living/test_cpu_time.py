"""``cpu_time`` of one command: where its container's cgroup doesn't count it, by one of the command's own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups.tree import Trees
from tests.living.conftest import names
from tests.living.test_memory import limited
from tests.living.test_spare_groups import groups
from tests.support import leftovers
from tests.support.waiting import soon

BUSY = ["sh", "-c", "while :; do :; done"]
PROGRAM = ["sleep", "300"]


@pytest.fixture
def by_v2_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose v1, if it has any, doesn't count processor time."""
    have = cgroup_tree.trees()
    if have.v2 is None or os.geteuid() != 0:
        pytest.skip("needs root, and a v2 tree")
    found = Trees(os.getpid())
    found.v2 = have.v2
    found.v1 = {name: tree for name, tree in have.v1.items() if name != "cpuacct"}
    monkeypatch.setattr(cgroup_tree, "_found", found)


@pytest.fixture(params=["as it is", "v2"])
def counted(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "v2":
        request.getfixturevalue("by_v2_alone")
    yield
    assert not leftovers.cgroups()


def cgroup_of(p: pyminicon.Process[Any]) -> str:
    return Path(f"/proc/{p.host_pid}/cgroup").read_text()


@limited
@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("own", [{}, {"pids": 64}, {"memory": "64M"}, {"usage": True}], ids=str)
@pytest.mark.parametrize("args", [None, PROGRAM], ids=["to live in", "with a program"])
def test_a_command_that_has_used_its_time_ends_and_the_container_goes_on(
    args: list[str] | None, own: dict[str, Any]
) -> None:
    program = {"init": True} if args else {}
    with pyminicon.start(args, **program, **own) as c:
        r = c.run(BUSY, cpu_time=0.2, timeout=60)
        assert (r.returncode, r.limit) == (-9, "cpu_time")
        assert r.usage.user + r.usage.system >= 0.19
        with c.start(BUSY, cpu_time=0.2) as p:
            assert (p.wait(60), p.limit) == (-9, "cpu_time")
        assert c.poll() is None and c.run(["true"], cpu_time=5).returncode == 0


@limited
@pytest.mark.usefixtures("counted")
def test_all_that_has_come_of_it_is_counted_and_ended() -> None:
    script = "setsid sh -c 'while :; do :; done' & (setsid sh -c 'while :; do :; done' &) ; sleep 300"
    with pyminicon.start() as c:
        r = c.run(["sh", "-c", script], cpu_time=0.3, timeout=60)
        assert (r.returncode, r.limit) == (-9, "cpu_time")
        assert names(c) == []


@limited
@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("own", [{}, {"pids": 64}], ids=str)
def test_nobody_else_is_counted_or_ended(own: dict[str, Any]) -> None:
    with pyminicon.start(**own) as c, c.start(BUSY) as other, c.start(["sleep", "1.5"], cpu_time=1) as idle:
        with c.start(BUSY, cpu_time=0.3) as p:
            assert cgroup_of(p) != cgroup_of(idle) != cgroup_of(other)
            assert (p.wait(60), p.limit) == (-9, "cpu_time")
        assert (idle.wait(60), idle.limit) == (0, None)
        assert other.poll() is None
        assert idle.usage.user + idle.usage.system < 1


@limited
@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("own", [{}, {"pids": 64}, {"memory": "64M"}], ids=str)
def test_the_next_command_begins_at_nothing(own: dict[str, Any]) -> None:
    with pyminicon.start(**own) as c:
        for _ in range(2):
            assert c.run(BUSY, cpu_time=1, timeout=60).limit == "cpu_time"
            r = c.run(["true"], cpu_time=1)  # which takes a tenth of that on an emulated machine
            assert r.limit is None and r.usage.user + r.usage.system < 1


@limited
@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("args", [None, PROGRAM], ids=["to live in", "with a program"])
def test_its_cgroup_goes_with_the_last_process_or_with_the_container(args: list[str] | None) -> None:
    with pyminicon.start(args, **({"init": True} if args else {})) as c:
        c.run(["true"], cpu_time=5)
        assert not leftovers.cgroups()
        c.run(["sh", "-c", "sleep 0.3 & exit 0"], cpu_time=5)
        assert leftovers.cgroups()  # it lives on, and is counted
        assert soon(lambda: (c.run(["true"]), not leftovers.cgroups())[1])
        c.run(["sh", "-c", "sleep 300 & exit 0"], cpu_time=5)
        running = c.start(PROGRAM, cpu_time=5)
        assert len(leftovers.cgroups()) == 2
    assert not leftovers.cgroups()
    assert running.wait(30) == -9


@limited
@pytest.mark.usefixtures("counted")
def test_one_that_can_not_begin_leaves_none() -> None:
    with pyminicon.start() as c:
        for start in (c.run, c.start):
            with pytest.raises(pyminicon.LaunchError, match="no-such-program"):
                start(["no-such-program"], cpu_time=1)
            # Its process is on its way out, and the next command looks again.
            assert soon(lambda: (c.run(["true"]), not leftovers.cgroups())[1])


@limited
@pytest.mark.usefixtures("counted")
def test_in_aio_as_well() -> None:
    async def both() -> None:
        async with await pyminicon.aio.start() as c:
            r, other = await asyncio.gather(
                c.run(BUSY, cpu_time=0.2, timeout=60), c.run(["sleep", "1.2"], cpu_time=1)
            )
            assert (r.returncode, r.limit, other.returncode, other.limit) == (-9, "cpu_time", 0, None)
            async with await c.start(BUSY, cpu_time=0.2) as p:
                assert (await p.wait(), p.limit) == (-9, "cpu_time")
            assert not leftovers.cgroups()

    asyncio.run(both())


@limited
def test_in_a_kept_container_its_keeper_counts() -> None:
    with pyminicon.start(detach=True) as c:
        try:
            r = c.run(BUSY, cpu_time=0.2, timeout=60)
            assert (r.returncode, r.limit) == (-9, "cpu_time")
            assert c.run(["true"], cpu_time=5).returncode == 0
        finally:
            c.kill()


_OWNER = """
import os, sys, pyminicon
c = pyminicon.start()
p = [c.start(["sh", "-c", "setsid sleep 300 & sleep 300"], cpu_time=100) for _ in range(3)]
print(*(one.host_pid for one in p), flush=True)
sys.stdin.read()
"""


@limited
def test_a_killed_owner_leaves_none() -> None:
    for _ in range(3):
        owner = subprocess.Popen(
            [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with owner:
            assert owner.stdout is not None
            pids = owner.stdout.readline().split()
            mark = f"-{owner.pid}-"
            assert len(_marked(mark)) == 3
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            assert soon(lambda mark=mark: not _marked(mark))  # type: ignore[misc]
            assert soon(lambda pids=pids: not any(os.path.exists(f"/proc/{pid}") for pid in pids))  # type: ignore[misc]


def _marked(mark: str) -> set[str]:
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", f"pyminicon-*{mark}*", "-type", "d"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {line for line in found.stdout.split() if not line.endswith("-0")}  # which all containers share


@limited
def test_where_the_containers_own_counts_there_is_no_other() -> None:
    with pyminicon.start(usage=True) as c, c.start(PROGRAM, cpu_time=5) as p:
        (own,) = {path.rpartition("/")[2] for path in leftovers.cgroups()}
        assert f"/{own}/" in cgroup_of(p) and groups()


def may_have_one() -> bool:
    """Whether cgroups that count may be made here, whatever it is that says no."""
    try:
        with pyminicon.start(["true"], cpu_time=5) as c:
            return c.wait(30) == 0
    except pyminicon.Error:
        return False


@pytest.mark.skipif(os.geteuid() == 0, reason="needs an ordinary user: root may make one")
def test_an_ordinary_user_who_may_make_none_is_told_what_helps(home: pyminicon.Container[bytes]) -> None:
    if may_have_one():
        assert home.run(["true"], cpu_time=5).returncode == 0
        return
    with pytest.raises(pyminicon.LaunchError, match=r"root|loginctl"):
        home.run(["true"], cpu_time=5)
    assert home.run(["true"]).returncode == 0


def test_where_no_tree_counts_it_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, home: pyminicon.Container[bytes]
) -> None:
    monkeypatch.setattr(cgroup_tree, "_found", Trees(os.getpid()))
    for start in (home.run, home.start):
        with pytest.raises(pyminicon.LaunchError, match="no cgroup tree that counts CPU time"):
            start(["true"], cpu_time=1)
    assert home.run(["true"]).returncode == 0
