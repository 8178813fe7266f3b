"""The same on an event loop, without a thread."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

import pyminicon
from pyminicon import PIPE, aio


def on_a_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def names(c: Any) -> list[str]:
    script = 'for d in /proc/[0-9]*; do read -r name < $d/comm && [ ${d#/proc/} != $$ ] && echo "$name"; done 2>/dev/null'
    r = await c.run(["sh", "-c", script], capture_output=True, text=True)
    return sorted(name for name in r.stdout.split() if not name.startswith("pyminicon-"))


async def none_left(c: Any) -> bool:
    for _ in range(200):
        if not await names(c):
            return True
        await asyncio.sleep(0.02)
    return False


def test_commands_run_and_processes_are_talked_with() -> None:
    async def work() -> None:
        async with await aio.start(env={"A": "1"}) as c:
            r = await c.run(["sh", "-c", "echo $A$B; exit 3"], env={"B": "2"}, capture_output=True, text=True)
            assert (r.returncode, r.stdout) == (3, "12\n")
            assert (await c.run(["cat"], input=b"x" * 300_000, capture_output=True)).stdout == b"x" * 300_000
            async with await c.start(["cat"], stdin=PIPE, stdout=PIPE, text=True) as p:
                assert await p.communicate("words") == ("words", None)
                assert (p.returncode, p.poll()) == (0, 0)
            async with await c.start(["sleep", "100"]) as p:
                p.terminate()
                assert await p.wait() == -15
            async with await c.start(["sleep", "100"]) as p:
                assert p.poll() is None and p.host_pid is not None
            assert p.returncode == -9
        assert c.returncode == 0

    on_a_loop(work())


def test_what_cannot_be_begun_says_so() -> None:
    async def work() -> None:
        async with await aio.start() as c:
            with pytest.raises(FileNotFoundError):
                await c.run(["no-such-program"])
            with pytest.raises(pyminicon.SpecError, match="memory"):
                await c.run(["true"], memory="1G")
            with pytest.raises(pyminicon.SpecError, match="user"):
                await c.run(["true"], user="nobody-there")
            with pytest.raises(pyminicon.CalledProcessError):
                await c.run(["false"], check=True)
            assert (await c.run(["true"])).returncode == 0
        with pytest.raises(pyminicon.ContainerEnded):
            await c.run(["true"])
        async with await aio.start(["sleep", "9"]) as c:
            with pytest.raises(pyminicon.SpecError, match="init"):
                await c.run(["true"])

    on_a_loop(work())


def test_timeouts_and_limits_end_all_that_has_come_of_it() -> None:
    async def work() -> None:
        async with await aio.start() as c:
            script = "setsid sleep 70 & (setsid sleep 71 &); sleep 72"
            with pytest.raises(pyminicon.TimeoutExpired):
                await c.run(["sh", "-c", script], timeout=0.3)
            assert await names(c) == []
            assert (await c.run(["sh", "-c", script], wall_time=0.3)).limit == "wall_time"
            assert await names(c) == []
            r = await c.run(["sh", "-c", "yes & yes"], max_output=10, capture_output=True)
            assert (r.limit, len(r.stdout)) == ("output", 10)
            assert await names(c) == []

    on_a_loop(work())


def test_a_storm_of_cancelling_leaves_nothing() -> None:
    threads = set(threading.enumerate())  # a proxy may serve others of this process

    async def work() -> None:
        async with await aio.start() as c:
            for moment in range(15):
                tasks = [
                    asyncio.ensure_future(c.run(["sh", "-c", "sleep 70 & sleep 71"], capture_output=True))
                    for _ in range(8)
                ]
                await asyncio.sleep(0.001 * moment)
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(one, asyncio.CancelledError) for one in ended)
            assert await none_left(c)
            assert set(threading.enumerate()) <= threads

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    on_a_loop(work())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_three_hundred_commands_at_once_in_thirty_containers() -> None:
    threads = set(threading.enumerate())  # a proxy may serve others of this process

    async def work() -> None:
        boxes = await asyncio.gather(*(aio.start() for _ in range(30)))
        try:
            runs = [
                box.run(["echo", str(n)], capture_output=True, text=True) for n in range(10) for box in boxes
            ]
            told = [r.stdout for r in await asyncio.gather(*runs)]
            assert told == [f"{n}\n" for n in range(10) for _ in boxes]
            assert set(threading.enumerate()) <= threads
        finally:
            await asyncio.gather(*(box.aclose() for box in boxes))
        assert {box.returncode for box in boxes} == {0}

    on_a_loop(work())


def test_commands_end_with_their_container_and_its_limit() -> None:
    async def work() -> None:
        async with await aio.start(wall_time=1.5) as c:
            p = await c.start(["sleep", "100"])
            r = await c.run(["sleep", "100"])
            assert (r.returncode, r.limit) == (-9, "wall_time")
            assert (await p.wait(), p.limit) == (-9, "wall_time")
            assert (await c.wait(), c.limit) == (-9, "wall_time")

    on_a_loop(work())


def test_a_flood_from_the_background_holds_nobody_up() -> None:
    async def work() -> None:
        async with await aio.start() as c:
            r = await c.run(["sh", "-c", "echo y; yes & sleep 0.1"], capture_output=True)
            assert r.returncode == 0 and r.stdout.startswith(b"y\n")
            p = await c.start(["sh", "-c", "echo y; yes & sleep 0.1"], stdout=PIPE)
            out, _ = await p.communicate()
            assert out.startswith(b"y\n")

    on_a_loop(work())
