"""Launches beside the loop: when several containers are going on, threads of the core's own make the next."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.program.conftest import Program, alive, gone_after
from tests.support import leftovers as account
from tests.support.waiting import soon

Start = Callable[..., Program]
SHELL = ["/bin/sh", "-c"]


def on_loop(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


@asynccontextmanager
async def company(mark: str) -> AsyncIterator[None]:
    """A container that is there all the time, so that each other one is launched beside the loop."""
    async with await aio.start(["/bin/sleep", mark]):
        yield


def test_with_others_going_on_a_launch_has_a_thread_and_the_loop_goes_on() -> None:
    async def body() -> None:
        rounds, seen = 0, set[str]()
        before = threads()

        async def turn() -> None:
            nonlocal rounds
            while True:
                await asyncio.sleep(0)
                rounds += 1
                seen.update(threads())

        async def one() -> int:
            async with await aio.start(["/bin/sleep", "60"]):
                return rounds

        turning = asyncio.create_task(turn())
        started = await asyncio.gather(*(one() for _ in range(40)))
        turning.cancel()
        assert len(set(started)) > 2, "all were launched within one turn of the loop"
        assert seen - before

    on_loop(body())


def test_the_threads_end_with_the_last_container(mark: str) -> None:
    async def body() -> set[str]:
        before = threads()
        await asyncio.gather(*(aio.run(["/bin/true"]) for _ in range(20)))
        return before

    before = on_loop(body())
    assert soon(lambda: threads() <= before)


def test_threads_with_nothing_to_do_end_before_that(mark: str) -> None:
    async def body() -> None:
        before = threads()
        async with company(mark):
            await aio.run(["/bin/true"])
            assert threads() - before
            while not threads() <= before:
                await asyncio.sleep(0.05)

    on_loop(body())


def test_what_is_run_beside_is_what_run_gives(mark: str) -> None:
    told: dict[str, Any] = {"input": b"in\n", "capture_output": True, "env": {"A": "b"}, "cwd": "/tmp"}
    line = "cat; pwd; echo $A >&2; exit 7"

    async def body() -> Any:
        async with company(mark):
            return await aio.run([*SHELL, line], **told, trace=True)

    r, same = on_loop(body()), pyminicon.run([*SHELL, line], **told)
    assert (r.returncode, r.stdout, r.stderr) == (same.returncode, same.stdout, same.stderr)
    assert (r.returncode, r.stdout, r.stderr) == (7, b"in\n/tmp\n", b"b\n")
    assert "exec" in [stage for stage, _ in r.trace]
    assert r.startup > 0


def test_every_kind_is_launched_beside(tmp_path: Any) -> None:
    tmp_path.chmod(0o755)
    kinds: list[dict[str, Any]] = [
        {}, {"init": True}, {"userns": "private"}, {"read_only": True}, {"files": {"/tmp/x": b"x"}},
        {"rlimits": {"nofile": 64}}, {"volumes": [f"{tmp_path}:/v"]}, {"wall_time": 60}, {"collect": ["/etc/hostname"]},
    ]  # fmt: skip
    if os.geteuid() == 0:
        kinds += [{"user": "1000:1000"}, {"memory": "64M"}]

    async def one(number: int) -> None:
        told = kinds[number % len(kinds)]
        r = await aio.run([*SHELL, f"ls /proc/self/fd; exit {number}"], stdout=-1, text=True, **told)
        assert (r.returncode, r.stdout.split()) == (number, ["0", "1", "2", "3"])

    async def body() -> None:
        await asyncio.gather(*(one(number) for number in range(5 * len(kinds))))

    on_loop(body())


@pytest.mark.parametrize("call", [aio.run, aio.start])
@pytest.mark.parametrize(
    ("command", "options"), [("/no/such/program", {}), ("/bin/true", {"cwd": "/no/such"})]
)
def test_an_error_beside_is_the_same_error(
    call: Callable[..., Any], command: str, options: dict[str, Any], mark: str
) -> None:
    async def body() -> pyminicon.LaunchError:
        async with company(mark):
            before = account.count()
            with pytest.raises(pyminicon.LaunchError) as caught:
                await call([command], **options)
            assert {**account.count(), "descriptors": 0} == {**before, "descriptors": 0}
            return caught.value

    with pytest.raises(pyminicon.LaunchError) as same:
        pyminicon.run([command], **options)
    error = on_loop(body())
    assert (str(error), error.errno, error.stage, error.subject) == (
        str(same.value), same.value.errno, same.value.stage, same.value.subject,
    )  # fmt: skip


def test_limits_and_timeouts_hold_beside(mark: str) -> None:
    async def body() -> None:
        async with company(mark):
            for seconds in (1e-6, 0.2):
                with pytest.raises(pyminicon.TimeoutExpired):
                    await aio.run(["/bin/sleep", mark], timeout=seconds)
                r = await aio.run(["/bin/sleep", mark], wall_time=seconds)
                assert (r.limit, r.returncode) == ("wall_time", -9)
            box = await aio.start(
                [*SHELL, "while :; do echo more; done"], stdout=-1, stderr=-2, max_output=1000
            )
            assert len(await box.stdout.read()) == 1000
            assert (await box.wait(), box.limit) == (-9, "output")
            await box.aclose()
            async with await aio.start(["/bin/sleep", mark], wall_time=0.2) as box:
                assert (await box.wait(), box.limit) == (-9, "wall_time")

    on_loop(body())


@pytest.mark.parametrize("call", [aio.run, aio.start])
@pytest.mark.parametrize("options", [{}, {"stdin": -1, "stdout": -1}, {"storage": "disk"}])
def test_cancelled_while_it_is_being_launched_leaves_nothing(
    call: Callable[..., Any], options: dict[str, Any], mark: str, own_store: object
) -> None:
    async def body() -> None:
        async with company(mark + "0"):
            await aio.run(["/bin/true"], storage="disk")  # the store
            await aio.run(["/bin/true"])  # the descriptor of the launches
            before = account.count()
            for step in range(60):
                task = asyncio.create_task(call(["/bin/sleep", mark + "1"], **options))
                for _ in range(step % 6):
                    await asyncio.sleep(0)
                if step >= 30:
                    await asyncio.sleep((step - 30) * 0.0001)
                task.cancel()
                for _ in range(step % 3):
                    await asyncio.sleep(0)
                    task.cancel()
                try:
                    await (await task).aclose()  # it was started before anybody cancelled
                except asyncio.CancelledError:
                    pass
                assert not alive(mark + "1")
                assert account.appeared(before) == {}

    on_loop(body())


def test_200_with_cancels_among_them_leave_nothing(mark: str) -> None:
    async def one(number: int) -> int:
        return (await aio.run([*SHELL, f"exit {number % 100}"], capture_output=True)).returncode

    async def body() -> None:
        tasks = [asyncio.create_task(one(number)) for number in range(200)]
        for number in range(0, 200, 3):
            await asyncio.sleep(0.0005 * (number % 5))
            tasks[number].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for number, end in enumerate(ended):
            assert end == number % 100 or (number % 3 == 0 and isinstance(end, asyncio.CancelledError))

    before, ours = account.count(), threads()
    on_loop(body())
    assert not account.appeared(before)
    assert soon(lambda: threads() <= ours)


def test_a_loop_that_is_closed_while_launches_go_on(mark: str) -> None:
    ours = threads()
    for turns in range(1, 12):
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(aio.run(["/bin/sleep", mark], capture_output=True)) for _ in range(30)]
        for _ in range(turns):
            loop.run_until_complete(asyncio.sleep(0))
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        del task, tasks, loop
        gc.collect()
    assert gone_after(mark, 5) is not None
    assert soon(lambda: threads() <= ours)


def test_a_fork_while_launches_go_on(program: Start, mark: str) -> None:
    """The child drops what it has of them, and launches its own, beside a loop of its own."""
    running = program("""
import asyncio, gc, pyminicon, sys
from pyminicon import aio

async def several(word):
    told = [aio.run(['/bin/echo', word], capture_output=True) for _ in range(10)]
    return {r.stdout for r in await asyncio.gather(*told)}

async def main():
    tasks = [asyncio.create_task(aio.run(['/bin/echo', 'a'], capture_output=True)) for _ in range(100)]
    pids = []
    for turn in range(10):
        for _ in range(turn):
            await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            try:
                for task in tasks:
                    task.cancel()
                    task.get_coro().close()
                tasks.clear()
                del task
                gc.collect()
                assert asyncio.run(asyncio.wait_for(several('b'), 20)) == {b'b\\n'}
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert {r.stdout for r in await asyncio.gather(*tasks)} == {b'a\\n'}
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    print(await several('c'))

asyncio.run(asyncio.wait_for(main(), 60))
""")
    assert running.end() == (0, "{b'c\\n'}\n")


def test_two_loops_have_each_its_own_threads_affinity() -> None:
    """A container runs where its loop's thread may run, whoever launches it."""
    every = os.sched_getaffinity(0)
    if len(every) < 2:
        pytest.skip("needs two processors")

    async def several() -> set[str]:
        line = (
            "while read name rest; do [ $name = Cpus_allowed_list: ] && echo $rest; done < /proc/self/status"
        )
        told = [aio.run([*SHELL, line], capture_output=True, text=True) for _ in range(10)]
        return {r.stdout.strip() for r in await asyncio.gather(*told)}

    try:
        for one in sorted(every)[:2]:
            os.sched_setaffinity(0, {one})
            assert on_loop(several()) == {str(one)}
    finally:
        os.sched_setaffinity(0, every)
