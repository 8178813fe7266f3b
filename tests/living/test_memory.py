"""Limits of a container that lives, and what each command has of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import PIPE, aio
from tests.living.conftest import names, stops_while_frozen
from tests.support.waiting import soon

HOG = ["python", "-c", "l = []\nwhile True: l.append(bytearray(1 << 20))"]

V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
# An ordinary user has cgroups of his own where v2 is alone, as systemd gives them.
limited = pytest.mark.skipif(not V2 and os.geteuid() != 0, reason="needs cgroup v2 alone, or root")


@limited
def test_a_kill_for_memory_meets_no_other_command_however_often() -> None:
    """What ends the rest of a command allocates nothing in the container while the victim's memory is still there."""
    with pyminicon.start(image="python", memory="32M") as c, c.start(["sleep", "300"]) as other:
        for turn in range(60):
            r = c.run(["python", "-c", "x = bytearray(64 << 20)"], stderr=pyminicon.DEVNULL)
            assert (r.returncode, r.limit) == (-9, "memory")
            assert other.poll() is None, (turn, other.limit)


@limited
def test_a_kill_for_memory_ends_the_command_and_all_that_has_come_of_it() -> None:
    with pyminicon.start(image="python", memory="64M") as c, c.start(["sleep", "300"]) as other:
        r = c.run(["sh", "-c", '(setsid sleep 71 &); "$@"; sleep 72', "sh", *HOG], timeout=60)
        assert (r.returncode, r.limit) == (-9, "memory")
        assert names(c) == ["sleep"] and other.poll() is None
        p = c.start(HOG)
        assert (p.wait(60), p.limit) == (-9, "memory")
        assert c.run(["true"]).limit is None and c.poll() is None
    assert (c.returncode, c.limit) == (0, None)


@limited
def test_it_is_the_same_on_a_loop() -> None:
    async def work() -> None:
        async with await aio.start(image="python", memory="64M") as c:
            r = await c.run(HOG, timeout=60)
            assert (r.returncode, r.limit) == (-9, "memory")
            assert (await c.run(["true"])).returncode == 0
        assert (c.returncode, c.limit) == (0, None)

    asyncio.run(work())


@limited
def test_a_container_with_a_program_ends_as_before() -> None:
    with pyminicon.start(["sleep", "300"], image="python", memory="64M", init=True) as c:
        assert c.run(HOG, timeout=60).returncode == -9
        assert (c.wait(30), c.limit) == (-9, "memory")


@limited
def test_what_a_command_has_used_is_told_with_all_that_has_come_of_it() -> None:
    with pyminicon.start(image="python", usage=True) as c:
        script = "python -c 'bytearray(80 << 20)'; python -c 'import time; t = time.process_time() + .2\nwhile time.process_time() < t: pass'"
        r = c.run(["sh", "-c", script])
        small = c.run(["true"])
        assert r.usage.memory_peak is not None and small.usage.memory_peak is not None
        assert r.usage.memory_peak > 60 << 20 > small.usage.memory_peak
        assert r.usage.user is not None and r.usage.system is not None
        assert r.usage.user + r.usage.system > 0.2


@limited
def test_cpu_time_is_a_commands_own() -> None:
    with pyminicon.start(usage=True) as c:
        for _ in range(2):
            assert c.run(["sh", "-c", "while :; do :; done"], cpu_time=0.2, timeout=60).limit == "cpu_time"
        assert c.poll() is None


@limited
def test_a_runtime_finds_the_limit_in_its_commands_own_cgroup() -> None:
    v1 = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    v2 = "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max"
    with pyminicon.start(memory="64M") as c:
        for wanted in ("64M", "96M"):
            c.update(memory=wanted)
            r = c.run(["sh", "-c", v2 if V2 else v1], capture_output=True)
            assert int(r.stdout) == int(wanted[:-1]) << 20


@limited
def test_a_changed_limit_holds_for_the_commands_there_are() -> None:
    with pyminicon.start(image="python", memory="256M") as c, c.start(["cat"], stdin=PIPE, stdout=PIPE) as p:
        code = "import sys; sys.stdin.readline(); bytearray(128 << 20)"
        with c.start(["python", "-c", code], stdin=PIPE) as hog:
            c.update(memory="64M")
            hog.communicate(b"\n", timeout=60)
            assert (hog.returncode, hog.limit) == (-9, "memory")
        assert p.communicate(b"alive", timeout=60)[0] == b"alive"


@limited
@pytest.mark.parametrize("own", [{"memory": "64M"}, {"usage": True}, {"cpus": 1.0, "pids": 100}])
def test_the_end_of_a_command_with_a_cgroup_ends_nobody_else(own: Any) -> None:
    with pyminicon.start(**own) as c, c.start(["sleep", "300"]) as other:
        with pytest.raises(pyminicon.TimeoutExpired):
            c.run(["sh", "-c", "setsid sleep 71 & (sleep 72 &); sleep 73"], timeout=0.5)
        assert names(c) == ["sleep"] and other.poll() is None


@limited
def test_a_template_has_them_too() -> None:
    with pyminicon.Template(image="python", memory="64M") as t, t.start() as c:
        assert c.run(HOG, timeout=60).limit == "memory"
        assert c.run(["true"]).limit is None and c.poll() is None


@limited
def test_what_starves_or_freezes_commands_holds_nobody_up_who_ends_them() -> None:
    busy = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; echo up; wait"]
    with pyminicon.start(cpus=0.1, pids=100) as c:
        with c.start(busy, stdout=PIPE) as p:
            assert p.stdout is not None and p.stdout.readline() == b"up\n"
            c.freeze()
            with pytest.raises(pyminicon.TimeoutExpired):
                c.run(["true"], timeout=0.5)
            c.thaw()
            assert p.poll() is None
            p.kill()
            assert p.wait(60) == -9
        assert names(c) == []


@limited
def test_init_is_no_part_of_what_is_starved_or_frozen() -> None:
    with pyminicon.start(cpus=0.5) as c:
        c.run(["true"])
        c.freeze()
        place = Path(f"/proc/{c.pid}/cgroup").read_text()
        # One that has just ended and isn't reaped yet is nowhere, and then it is gone.
        assert soon(lambda: set(places_of(workers(c.pid))) == {place})
        c.thaw()
    ours = [line for line in place.splitlines() if f"-{os.getpid()}-" in line]
    assert all(line.endswith("/init") for line in ours if line.startswith("0::"))
    assert not [line for line in ours if ":cpu:" in line or ":freezer:" in line]


def places_of(pids: list[int]) -> Iterator[str]:
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield Path(f"/proc/{pid}/cgroup").read_text()


def workers(init: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]


@limited
def test_a_frozen_container_has_its_commands_frozen() -> None:
    with (
        pyminicon.start(memory="64M") as c,
        c.start(["sh", "-c", "while echo x; do sleep 0.01; done"], stdout=-1) as p,
    ):
        stops_while_frozen(c, p)


def cgroups() -> set[str]:
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-path", f"*-{os.getpid()}-*", "-type", "d"],
        capture_output=True,
        text=True,
        check=False,
    )
    return set(found.stdout.split())


def of_commands() -> set[str]:
    return {os.path.basename(path) for path in cgroups() if "/command-" in path}


@limited
def test_no_cgroup_of_a_command_outlives_what_is_in_it_but_a_spare_one() -> None:
    """On cgroup v2 somebody waits for the next command in a cgroup of his own."""
    before = cgroups()
    with pyminicon.start(memory="64M") as c:
        for _ in range(10):
            c.run(["true"])
            assert len(of_commands()) in (1, 2)
        c.run(["sh", "-c", "(until [ -e /tmp/go ]; do sleep 0.05; done) & exit 0"])
        assert c.run(["true"]).returncode == 0 and len(of_commands()) in (2, 3)
        c.run(["touch", "/tmp/go"], check=True)
        assert soon(lambda: c.run(["true"]).returncode == 0 and len(of_commands()) in (1, 2))
        c.run(["sh", "-c", "sleep 300 & exit 0"])
    assert cgroups() == before


@pytest.mark.parametrize("clock", ["host", "private"])
def test_wall_is_the_time_that_it_lasted(clock: Any) -> None:
    try:
        c = pyminicon.start(time=clock)
    except pyminicon.LaunchError as error:
        assert (error.stage, clock) == ("timens", "private")
        pytest.skip("needs Linux 6.2 (a time namespace that counts at exec)")
    with c:
        assert 0.2 <= c.run(["sleep", "0.2"]).usage.wall < 10
        with c.start(["sleep", "0.2"]) as p:
            p.wait(30)
            assert 0.2 <= p.usage.wall < 10
