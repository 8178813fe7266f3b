"""A started container on an event loop: streams to write, read and iterate over, and its end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any

import pytest

import pyminicon
from pyminicon import PIPE, STDOUT, aio
from tests.program.conftest import alive
from tests.support import leftovers as account
from tests.support.waiting import soon


def on_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


SHELL = ["/bin/sh", "-c"]


def test_lines_come_as_they_are_written() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "echo one; read x; echo got $x"], stdin=PIPE, stdout=PIPE) as box:
            assert await box.stdout.readline() == b"one\n"
            assert box.returncode is None
            box.stdin.write(b"answer\n")
            await box.stdin.drain()
            assert [line async for line in box.stdout] == [b"got answer\n"]
            assert await box.wait() == 0
            assert box.returncode == 0
            assert box.poll() == 0

    on_loop(body())


def test_text_is_read_and_written_as_str() -> None:
    async def body() -> None:
        async with await aio.start(["/bin/cat"], stdin=PIPE, stdout=PIPE, text=True) as box:
            box.stdin.write("ä\r\nb\n")
            box.stdin.writelines(["c\n", "d"])
            box.stdin.close()
            await box.stdin.wait_closed()
            assert [line async for line in box.stdout] == ["ä\n", "b\n", "c\n", "d"]
            assert box.stdout.at_eof()
            assert await box.stdout.read() == ""

    on_loop(body())


def test_a_long_text_costs_what_it_is_long() -> None:
    """As a whole, and in short lines: twice as long takes twice as long, and no other coroutine waits."""

    async def body() -> None:
        size = 32 << 20
        longest, last = 0.0, time.thread_time()

        async def beat() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0)
                now = time.thread_time()  # of a busy machine the others have their part
                longest, last = max(longest, now - last), now

        line = f"yes ab | head -c {size}"
        beating = asyncio.create_task(beat())
        async with await aio.start([*SHELL, line], stdout=PIPE, text=True) as box:
            begun = time.process_time()
            out, _ = await box.communicate()
            whole = time.process_time() - begun
        assert (len(out), out[:6]) == (size, "ab\nab\n")
        async with await aio.start([*SHELL, line], stdout=PIPE, text=True) as box:
            begun = time.process_time()
            count = 0
            async for _ in box.stdout:
                count += 1
                if count == 200_000:
                    break
            lines = time.process_time() - begun
        beating.cancel()
        assert whole < 3 and lines < 3 and longest < 1, (whole, lines, longest)

    on_loop(body())


def test_a_read_that_was_cancelled_loses_nothing() -> None:
    async def body() -> None:
        line = "printf 'one\nt'; read x; printf 'wo\nthree'"
        async with await aio.start([*SHELL, line], stdin=PIPE, stdout=PIPE, text=True) as box:
            for read in (box.stdout.read, box.stdout.read):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(read(), 0.1)
            box.stdin.write("\n")
            assert await box.stdout.readline() == "one\n"
            assert await box.stdout.read(1) == "t"
            assert await box.stdout.read() == "wo\nthree"
            assert box.stdout.at_eof()

    on_loop(body())


def test_stderr_goes_where_it_was_sent() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "echo a; echo b >&2"], stdout=PIPE, stderr=STDOUT) as box:
            assert box.stderr is None
            assert await box.stdout.read() == b"a\nb\n"
        async with await aio.start([*SHELL, "echo a; echo b >&2"], stdout=PIPE, stderr=PIPE) as box:
            assert await box.communicate() == (b"a\n", b"b\n")

    on_loop(body())


def test_communicate_feeds_reads_and_waits() -> None:
    data = os.urandom(1 << 20) * 3

    async def body() -> None:
        async with await aio.start(["/bin/cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as box:
            assert await box.communicate(data) == (data, b"")
            assert box.returncode == 0
        async with await aio.start(["/bin/true"], stdin=PIPE, stdout=PIPE) as box:
            assert await box.communicate(data) == (b"", None)  # nobody reads: no error

    on_loop(body())


def test_a_reader_that_goes_makes_drain_raise() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "exec <&-; sleep 600"], stdin=PIPE) as box:
            with pytest.raises(BrokenPipeError):
                while True:
                    box.stdin.write(b"x" * 65536)
                    await box.stdin.drain()

    on_loop(body())


def test_drain_waits_for_a_slow_reader_and_memory_stays_flat() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "sleep 0.3; cat > /dev/null"], stdin=PIPE) as box:
            most = 0
            for _ in range(100):
                box.stdin.write(b"x" * 65536)
                most = max(most, len(box.stdin._waiting))
                await box.stdin.drain()
            box.stdin.close()
            assert await box.wait() == 0
            assert most <= 3 * 65536

    on_loop(body())


def test_output_that_nobody_takes_stops_the_writer() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "exec head -c 300M /dev/zero"], stdout=PIPE) as box:
            await asyncio.sleep(0.5)
            assert box.returncode is None, "300 MB were taken in though nobody read"
            total = 0
            while data := await box.stdout.read(1 << 20):
                total += len(data)
            assert total == 300 << 20

    on_loop(body())


def test_a_write_end_held_by_another_process_doesn_t_keep_the_stream_open() -> None:
    async def body() -> None:
        # A copy of the container's own end, as a worker forked at the wrong moment would hold it.
        box = await aio.start([*SHELL, "read x; echo all"], stdin=PIPE, stdout=PIPE)
        async with box:
            holder = os.open(f"/proc/{box.pid}/fd/1", os.O_WRONLY)
            try:
                box.stdin.write(b"\n")
                assert await box.stdout.read() == b"all\n"
                assert await box.wait() == 0
            finally:
                os.close(holder)

    if os.geteuid() != 0:
        pytest.skip("needs root to open a descriptor of another process")
    on_loop(body())


def test_max_output_holds_for_start() -> None:
    async def body() -> None:
        async with await aio.start(
            [*SHELL, "while :; do echo line; done"], stdout=PIPE, stderr=STDOUT, max_output=10_000
        ) as box:
            out = await box.stdout.read()
            assert await box.wait() == -9
            assert (len(out), box.limit) == (10_000, "output")

    on_loop(body())


def test_wall_time_holds_for_start_without_anybody_waiting(mark: str) -> None:
    async def body() -> None:
        async with await aio.start(["/bin/sleep", mark], wall_time=0.2) as box:
            while alive(mark):
                await asyncio.sleep(0.02)
            assert await box.wait() == -9
            assert box.limit == "wall_time"

    on_loop(body())


def test_leaving_the_block_ends_the_container(mark: str) -> None:
    async def body() -> None:
        async with await aio.start(["/bin/sleep", mark], stdin=PIPE, stdout=PIPE, stderr=PIPE) as box:
            assert soon(lambda: alive(mark))
        assert not alive(mark)
        assert box.returncode == -9
        await box.aclose()  # again: nothing happens

    on_loop(body())


def test_leaving_the_block_closes_every_descriptor_at_once(mark: str) -> None:
    async def body() -> None:
        before = account.descriptors()
        gc.disable()
        try:
            for line in ("exit 0", f"sleep {mark}"):
                async with await aio.start([*SHELL, line], stdin=PIPE, stdout=PIPE, stderr=PIPE) as box:
                    if line == "exit 0":
                        await box.wait()
                assert account.descriptors() == before
                assert (box.pidfd, box.fileno()) == (-1, -1)
        finally:
            gc.enable()

    on_loop(body())


def test_an_exception_in_the_block_ends_the_container_and_goes_on(mark: str) -> None:
    async def body() -> None:
        with pytest.raises(KeyError):
            async with await aio.start(["/bin/sleep", mark]):
                raise KeyError
        assert not alive(mark)

    on_loop(body())


def test_cancelling_a_wait_leaves_the_container_running(mark: str) -> None:
    async def body() -> None:
        async with await aio.start(["/bin/sleep", mark]) as box:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(box.wait(), 0.2)
            assert alive(mark)
            assert box.poll() is None

    on_loop(body())


def test_cancelling_in_the_block_ends_the_container(mark: str) -> None:
    async def body() -> None:
        async def use() -> None:
            async with await aio.start(["/bin/sleep", mark]) as box:
                await box.wait()

        task = asyncio.create_task(use())
        while not alive(mark):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(mark)

    on_loop(body())


def test_signals_reach_the_program() -> None:
    async def body() -> None:
        line = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
        async with await aio.start([*SHELL, line], stdout=PIPE) as box:
            assert await box.stdout.readline() == b"ready\n"
            box.terminate()
            assert await box.stdout.read() == b"caught\n"
            assert await box.wait() == 5
            box.send_signal(signal.SIGTERM)  # it has ended: nothing happens
            box.kill()

    on_loop(body())


def test_several_may_wait_at_once() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "sleep 0.2; exit 3"]) as box:
            assert await asyncio.gather(*(box.wait() for _ in range(10))) == [3] * 10

    on_loop(body())


def test_it_has_the_facts_of_a_container() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "cat /etc/hostname; sleep 600"], stdout=PIPE) as box:
            assert os.readlink(f"/proc/{box.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
            assert (await box.stdout.readline()).decode() == box.id + "\n"
            assert box.fileno() == box.pidfd
            assert box.startup > 0
            assert box.usage.wall > 0
            assert box.id in repr(box)

    on_loop(body())


def test_the_pidfd_is_the_callers_to_watch() -> None:
    async def body() -> None:
        async with await aio.start(["/bin/sleep", "0.2"]) as box:
            loop, seen = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(box.fileno(), seen.set)
            assert await box.wait() == 0
            await asyncio.wait_for(seen.wait(), 5)
            loop.remove_reader(box.fileno())

    on_loop(body())


def test_a_status_that_was_taken_is_said_to_be_or_known(mark: str) -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "exit 6"]) as box:
            assert soon(lambda: os.waitid(os.P_PID, box.pid, os.WEXITED | os.WNOHANG) is not None)
            try:
                assert await box.wait() == 6  # Linux 6.15 and later still know
            except pyminicon.Error as error:
                assert "status was taken" in str(error)

    on_loop(body())


def test_it_is_made_by_start_alone() -> None:
    with pytest.raises(TypeError):
        aio.AsyncContainer(None, None, None, None, None, None)  # type: ignore[arg-type]


def test_a_terminal_of_its_own_doesnt_block_the_loop() -> None:
    async def body() -> None:
        async with await aio.start([*SHELL, "tty; read x; echo got $x"], tty=True) as box:
            seen, ready = bytearray(), asyncio.Event()
            loop = asyncio.get_running_loop()

            def more() -> None:
                seen.extend(box.terminal.read())
                ready.set()

            with pytest.raises(BlockingIOError):
                while True:
                    seen.extend(box.terminal.read())
            loop.add_reader(box.terminal.fileno(), more)
            box.terminal.write(b"it\n")
            while b"got it" not in seen:
                ready.clear()
                await ready.wait()
            loop.remove_reader(box.terminal.fileno())
            assert b"/dev/" in seen
            assert await box.wait() == 0
        assert box.terminal.fileno() == -1

    on_loop(body())


def test_it_can_be_traced() -> None:
    async def body() -> None:
        async with await aio.start(["/bin/true"], trace=True) as box:
            assert "exec" in [stage for stage, _ in box.trace]
        async with await aio.start(["/bin/true"]) as box:
            assert box.trace is None

    on_loop(body())


def test_limits_change_and_all_stops_while_it_runs(needs_root: None) -> None:
    async def body() -> None:
        line = "while :; do echo x; sleep 0.01; done"
        async with await aio.start([*SHELL, line], stdout=PIPE, memory="32M", pids=20) as box:
            await box.stdout.readline()
            assert box.stats().memory > 0
            box.update(memory="64M")
            box.freeze()
            await asyncio.sleep(0.1)
            with pytest.raises(asyncio.TimeoutError):
                while True:
                    await asyncio.wait_for(box.stdout.readline(), 0.3)
            box.thaw()
            assert await box.stdout.readline() == b"x\n"

    on_loop(body())


def test_killing_goes_on_when_the_loop_is_closed(mark: str) -> None:
    loop = asyncio.new_event_loop()
    box = loop.run_until_complete(aio.start(["/bin/sleep", mark]))
    loop.close()
    assert soon(lambda: alive(mark))
    box.kill()
    assert soon(lambda: not alive(mark))
    assert soon(lambda: box.poll() == -9)
