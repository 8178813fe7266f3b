"""wait and communicate of what runs on a loop, with a timeout."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import pyminicon
from pyminicon import PIPE, aio
from pyminicon.aio.thread import in_thread


def test_a_wait_that_times_out_leaves_it_running() -> None:
    async def body() -> None:
        async with await aio.start(["/bin/sleep", "1000"]) as box:
            with pytest.raises(pyminicon.TimeoutExpired) as caught:
                await box.wait(0.05)
            assert (caught.value.timeout, box.poll()) == (0.05, None)
            box.kill()
            assert await box.wait(timeout=60) == -9

    asyncio.run(body())


def test_a_command_is_waited_for_likewise(rootfs: Path) -> None:
    async def body() -> None:
        async with (
            await aio.start(image=str(rootfs)) as box,
            await box.start(["/bin/sleep", "1000"]) as command,
        ):
            with pytest.raises(pyminicon.TimeoutExpired):
                await command.wait(0.05)
            with pytest.raises(pyminicon.TimeoutExpired, match=f"^Command 'container {box.id}' timed out"):
                await box.wait(0.05)
            command.kill()
            assert await command.wait(60) == -9

    asyncio.run(body())


def test_communicate_goes_on_where_it_timed_out() -> None:
    async def body() -> None:
        script = "echo first; read line; sleep 1; echo $line"
        async with await aio.start(["/bin/sh", "-c", script], stdin=PIPE, stdout=PIPE) as box:
            with pytest.raises(pyminicon.TimeoutExpired):
                await box.communicate(b"second\n", timeout=0.05)
            assert await box.communicate(timeout=60) == (b"first\nsecond\n", None)
            assert box.returncode == 0

    asyncio.run(body())


def test_a_wait_that_is_cancelled_is_cancelled() -> None:
    async def body() -> None:
        async with await aio.start(["/bin/sleep", "1000"]) as box:
            task = asyncio.create_task(box.wait(1000))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert box.poll() is None

    asyncio.run(body())


def test_what_a_thread_made_in_the_moment_of_the_cancelling_is_disposed_of() -> None:
    disposed: list[int] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(in_thread(loop, lambda: 5, disposed.append))
        await asyncio.sleep(0)
        delivered = time.monotonic() + 0.2
        while time.monotonic() < delivered:  # what it made is on its way to the loop, which doesn't turn
            pass
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(body())
    deadline = time.monotonic() + 60
    while not disposed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert disposed == [5]
