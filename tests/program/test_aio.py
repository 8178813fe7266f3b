"""run on an event loop: subprocess.run's answers, asyncio's manners."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import aio, cgroups
from pyminicon.images.lookup import store_path
from tests.program.conftest import alive, gone_after
from tests.support import leftovers as account


def on_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


SHELL = ["/bin/sh", "-c"]


def test_what_is_captured_is_what_run_captures() -> None:
    line = "cat; echo out; echo err >&2; exit 7"
    told = {"input": b"in\n", "capture_output": True}
    r = on_loop(aio.run([*SHELL, line], **told))
    same = pyminicon.run([*SHELL, line], **told)
    assert (
        (r.returncode, r.stdout, r.stderr)
        == (same.returncode, same.stdout, same.stderr)
        == (7, b"in\nout\n", b"err\n")
    )
    assert r.startup > 0
    assert r.usage.wall >= 0
    assert r.limit is None
    assert r.files == {}


def test_text_is_decoded_with_universal_newlines() -> None:
    r = on_loop(aio.run([*SHELL, r"printf 'a\r\nb\303\244'"], capture_output=True, text=True))
    assert r.stdout == "a\nbä"


def test_a_signal_is_a_negative_returncode() -> None:
    r = on_loop(aio.run([*SHELL, "kill -9 $$; sleep 9"], init=True))
    assert r.returncode == -9


def test_megabytes_go_through_in_both_directions() -> None:
    data = os.urandom(1 << 20) * 5
    r = on_loop(aio.run(["/bin/cat"], input=data, capture_output=True))
    assert r.stdout == data


def test_input_that_nobody_reads_is_no_error() -> None:
    r = on_loop(aio.run(["/bin/true"], input=b"x" * (1 << 20)))
    assert r.returncode == 0


def test_check_raises_with_what_was_captured() -> None:
    with pytest.raises(pyminicon.CalledProcessError) as caught:
        on_loop(aio.run([*SHELL, "echo so far; exit 4"], check=True, capture_output=True))
    assert (caught.value.returncode, caught.value.stdout) == (4, b"so far\n")


def test_timeout_raises_with_what_was_captured_and_leaves_nothing(mark: str) -> None:
    with pytest.raises(pyminicon.TimeoutExpired) as caught:
        on_loop(aio.run([*SHELL, f"echo so far; sleep {mark}"], timeout=2, capture_output=True))
    assert caught.value.output == b"so far\n"
    assert not alive(mark)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"wall_time": 0.2, "stdout": -3}, "wall_time"),
        ({"max_output": 1000, "capture_output": True}, "output"),
    ],
)
def test_a_limit_ends_it_and_is_named(options: dict[str, Any], limit: str) -> None:
    r = on_loop(aio.run([*SHELL, "while :; do echo more; done"], **options))
    assert (r.limit, r.returncode) == (limit, -9)
    if limit == "output":
        assert len(r.stdout) + len(r.stderr) == 1000


def test_as_much_output_as_allowed_is_no_limit_reached() -> None:
    r = on_loop(aio.run([*SHELL, "echo 1234567"], max_output=8, capture_output=True))
    assert (r.limit, r.returncode, r.stdout) == (None, 0, b"1234567\n")


def test_memory_and_cpu_limits_are_named() -> None:
    hog = ["/usr/bin/python3", "-c", "x = b'x' * (300 << 20)"] if os.path.exists("/usr/bin/python3") else [
        *SHELL, "head -c 300M /dev/zero | tail"]  # fmt: skip
    try:
        r = on_loop(aio.run(hog, memory="20M"))
    except pyminicon.LaunchError as error:
        if os.geteuid() != 0:
            pytest.skip(f"needs root or a delegated cgroup: {error}")
        raise
    assert r.limit == "memory"
    r = on_loop(aio.run([*SHELL, "while :; do :; done"], cpu_time=0.2))
    assert r.limit == "cpu_time"
    assert r.usage.user + r.usage.system > 0.1


def test_a_place_for_limits_is_looked_for_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd takes its time to lend one, and it can go again: at any launch."""
    threads = []

    def plan(*words: Any) -> Any:
        threads.append(threading.get_ident())
        return None  # as where usage=True finds no tree

    monkeypatch.setattr(cgroups, "plan", plan)

    async def several() -> None:
        for limit in ({"usage": True}, {"memory": "64M"}, {"cpu_time": 9}, {"usage": True, "timeout": 60}):
            await aio.run(["true"], **limit)
            async with await aio.start(["true"], **{k: v for k, v in limit.items() if k != "timeout"}) as c:
                await c.wait()
            await asyncio.gather(*(aio.run(["true"], **limit) for _ in range(2)))

    asyncio.run(several())
    assert len(threads) == 16 and threading.get_ident() not in threads


def test_files_go_in_and_are_collected() -> None:
    line = "cat /in/a > /tmp/b; echo more >> /tmp/b"
    r = on_loop(aio.run([*SHELL, line], files={"/in/a": b"given\n"}, collect=["/tmp/b", "/tmp/none"]))
    assert r.files == {"/tmp/b": b"given\nmore\n"}
    assert isinstance(r.collect_errors["/tmp/none"], FileNotFoundError)


def test_collecting_from_a_layer_on_disk(own_store: object) -> None:
    r = on_loop(aio.run([*SHELL, "echo it > /tmp/b"], storage="disk", collect=["/tmp/b"]))
    assert r.files == {"/tmp/b": b"it\n"}


def test_a_volume_is_there(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("text")
    tmp_path.chmod(0o755)
    r = on_loop(aio.run(["/bin/cat", "/v/file"], volumes=[f"{tmp_path}:/v:ro"], capture_output=True))
    assert r.stdout == b"text", r.stderr


def test_trace_tells_the_stages() -> None:
    r = on_loop(aio.run(["/bin/true"], trace=True))
    assert r.trace is not None
    assert "exec" in [stage for stage, _ in r.trace]


@pytest.mark.parametrize("call", [aio.run, aio.start])
def test_errors_come_as_from_run(call: Callable[..., Awaitable[Any]]) -> None:
    async def body() -> None:
        with pytest.raises(pyminicon.SpecError):
            await call(["/bin/true"], nonsense=1)
        with pytest.raises(pyminicon.LaunchError) as caught:
            await call(["/no/such/program"])
        assert caught.value.stage == "exec"
        with pytest.raises(pyminicon.LaunchError) as caught:
            await call(["/bin/true"], volumes=["/no/such/source:/v"])
        assert caught.value.subject == "/no/such/source"

    on_loop(body())


def test_start_refuses_what_only_run_takes() -> None:
    for option in ("input", "timeout", "check", "capture_output", "collect"):
        with pytest.raises(pyminicon.SpecError, match=option):
            on_loop(aio.start(["/bin/true"], **{option: True}))


def test_run_refuses_a_terminal_as_run_does() -> None:
    with pytest.raises(pyminicon.SpecError) as caught:
        on_loop(aio.run(["/bin/true"], tty=True))
    with pytest.raises(pyminicon.SpecError) as same:
        pyminicon.run(["/bin/true"], tty=True)
    assert str(caught.value) == str(same.value)


def test_cancelling_kills_the_container_and_waits_for_it(mark: str) -> None:
    async def body() -> None:
        task = asyncio.create_task(aio.run(["/bin/sleep", mark]))
        while not alive(mark):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(mark), "it was still there when the cancellation was through"

    on_loop(body())


def test_cancelling_again_and_again_still_waits(mark: str) -> None:
    async def body() -> None:
        task = asyncio.create_task(aio.run(["/bin/sleep", mark]))
        while not alive(mark):
            await asyncio.sleep(0.01)
        task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(mark)

    on_loop(body())


@pytest.fixture(params=["plain", "cgroup", "disk"])
def kind(request: pytest.FixtureRequest, own_store: object) -> dict[str, Any]:
    """Options of a container that leaves more or less to be removed."""
    if request.param == "cgroup" and os.geteuid() != 0:
        pytest.skip("needs root or a delegated cgroup")
    os.makedirs(f"{store_path()}/scratch", exist_ok=True)
    made: dict[str, dict[str, Any]] = {"plain": {}, "cgroup": {"memory": "64M"}, "disk": {"storage": "disk"}}
    return made[request.param]


def test_cancelling_at_any_moment_leaves_nothing(kind: dict[str, Any], mark: str) -> None:
    async def body() -> None:
        before = account.count()
        for step in range(40):
            task = asyncio.create_task(
                aio.run(["/bin/sleep", mark], capture_output=True, input=b"x" * 100_000, **kind)
            )
            for _ in range(step % 4):
                await asyncio.sleep(0)
            await asyncio.sleep(step * 0.0003)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not alive(mark)
            assert account.appeared(before) == {}

    on_loop(body())


def test_a_timeout_has_left_nothing_when_it_is_raised(kind: dict[str, Any], mark: str) -> None:
    async def body() -> None:
        before = account.count()
        with pytest.raises(pyminicon.TimeoutExpired) as caught:
            await aio.run(["/bin/sleep", mark], timeout=0.2, capture_output=True, **kind)
        assert account.count() == before
        assert caught.value.__traceback__ is not None  # whose frames hold what they have

    on_loop(body())


def test_cancelling_one_of_many_ends_only_that_one(mark: str) -> None:
    async def body() -> None:
        other = asyncio.create_task(aio.run([*SHELL, "sleep 0.5; echo alive"], capture_output=True))
        victim = asyncio.create_task(aio.run(["/bin/sleep", mark]))
        await asyncio.sleep(0.1)
        victim.cancel()
        r = await other
        assert (r.returncode, r.stdout) == (0, b"alive\n")
        with pytest.raises(asyncio.CancelledError):
            await victim

    on_loop(body())


def test_a_cancelled_launch_in_a_thread_leaves_nothing(tmp_path: Any, mark: str) -> None:
    async def body() -> None:
        for step in range(20):
            task = asyncio.create_task(aio.run(["/bin/sleep", mark], volumes=[f"{tmp_path}:/v"]))
            await asyncio.sleep(step * 0.0005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not alive(mark)

    on_loop(body())


def test_500_at_once_come_back_each_with_its_own() -> None:
    async def body() -> None:
        jobs = [aio.run(["/bin/echo", str(n)], capture_output=True, text=True) for n in range(500)]
        for n, r in enumerate(await asyncio.gather(*jobs)):
            assert r.stdout == f"{n}\n"

    asyncio.run(body())


def test_one_after_the_other_no_thread_is_made_once_the_image_is_known(rootfs: Path) -> None:
    image = str(rootfs)

    async def body() -> list[str]:
        await aio.run(["/bin/true"], image=image)
        before = set(os.listdir("/proc/self/task"))
        seen: set[str] = set()

        async def look() -> None:
            while True:
                seen.update(os.listdir("/proc/self/task"))
                await asyncio.sleep(0.001)

        looking = asyncio.create_task(look())
        for _ in range(5):
            await aio.run([*SHELL, "sleep 0.02; cat"], image=image, input=b"x", capture_output=True)
        async with await aio.start(["/bin/cat"], image=image, stdin=pyminicon.PIPE) as box:
            box.stdin.close()
            await box.wait()
        looking.cancel()
        return sorted(seen - before)

    assert on_loop(body()) == []


def test_the_loop_goes_on_while_a_container_runs() -> None:
    async def body() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        task = asyncio.create_task(beat())
        await aio.run(["/bin/sleep", "1"])
        task.cancel()
        return beats

    assert on_loop(body()) > 5


def test_a_loop_of_another_thread_serves_too() -> None:
    results: list[Any] = []

    def work() -> None:
        results.append(on_loop(aio.run(["/bin/echo", "there"], capture_output=True)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.stdout for r in results] == [b"there\n"] * 4


def test_a_loop_that_is_closed_takes_its_containers_along(mark: str) -> None:
    loop = asyncio.new_event_loop()
    box = loop.run_until_complete(aio.start(["/bin/sleep", mark]))
    task = loop.create_task(aio.run(["/bin/sleep", mark]))

    async def both() -> None:
        while len(alive(mark)) < 2:
            await asyncio.sleep(0.01)

    loop.run_until_complete(asyncio.wait_for(both(), 60))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del box, task, loop
    import gc

    gc.collect()
    assert gone_after(mark) is not None


def test_the_timeout_holds_for_a_container_that_ends_late(mark: str) -> None:
    begun = time.monotonic()
    with pytest.raises(pyminicon.TimeoutExpired):
        on_loop(aio.run([*SHELL, f"trap '' TERM INT; sleep {mark}"], timeout=0.2))
    assert time.monotonic() - begun < 10
