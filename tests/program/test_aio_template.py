"""A template on a loop: what the one outside has, awaited."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import DEVNULL, PIPE, aio
from tests.support.placement import needs_limit


def on_a_loop(work: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await work()

    return asyncio.run(asyncio.wait_for(main(), 120))


@pytest.mark.parametrize("limits", [{}, {"memory": "64M"}], ids=repr)
def test_it_runs_what_it_is_told(limits: dict[str, Any]) -> None:
    if limits:
        needs_limit("memory", "64M")

    async def work() -> None:
        async with aio.Template(image="host", **limits) as t:
            for word in ("one", "two"):
                r = await t.run(["echo", word], capture_output=True, text=True)
                assert (r.returncode, r.stdout) == (0, f"{word}\n")
            r = await t.run(["cat"], input=b"in", capture_output=True, env={"A": "b"}, cwd="/tmp")
            assert r.stdout == b"in" and bool(r.usage.memory_peak) == bool(limits)
            assert (await t.run(["sh", "-c", "exit 7"])).returncode == 7
            assert (await t.run(["true"], files={"/a": b"x"}, collect=["/a"])).files == {"/a": b"x"}
            assert (await t.run(["true"], trace=True)).trace

    on_a_loop(work)


def test_a_container_of_it_is_talked_with_and_may_be_lived_in() -> None:
    async def work() -> None:
        async with aio.Template(init=True) as t, aio.Template() as cold:
            async with await t.start(["cat"], stdin=PIPE, stdout=PIPE, text=True) as c:
                assert await c.communicate("words") == ("words", None)
            for each in (t, cold):
                async with await each.start() as c:
                    assert (await c.run(["sh", "-c", "exit 3"])).returncode == 3
                assert c.returncode == 0

    on_a_loop(work)


def test_it_is_awaited_or_entered_and_closed_once() -> None:
    async def work() -> None:
        t = await aio.Template(stock=2)
        assert t.ready >= 1
        await asyncio.gather(t.close(), t.close())
        with pytest.raises(pyminicon.Error, match="closed"):
            await t.run(["true"])
        unopened = aio.Template()
        assert (await unopened.run(["true"])).returncode == 0
        await unopened.close()

    on_a_loop(work)


def test_what_is_wrong_is_said_as_outside() -> None:
    async def work() -> None:
        with pytest.raises(pyminicon.SpecError, match="stock"):
            await aio.Template(stock=0)
        with pytest.raises(pyminicon.SpecError, match="memory"):
            async with aio.Template(memory="lots"):
                pass
        async with aio.Template() as t:
            with pytest.raises(pyminicon.SpecError, match="template's"):
                await t.run(["true"], memory="64M")  # type: ignore[call-overload]
            with pytest.raises(FileNotFoundError):
                await t.run(["no-such-program"])
            with pytest.raises(pyminicon.SpecError, match="input"):
                await t.start(["cat"], input=b"")  # type: ignore[call-overload]
            with pytest.raises(pyminicon.CalledProcessError):
                await t.run(["false"], check=True)

    on_a_loop(work)


def test_many_at_once_on_a_small_stock() -> None:
    async def work() -> None:
        before = set(threading.enumerate())
        async with aio.Template(stock=2) as t:
            made = await asyncio.gather(*(t.run(["sh", "-c", f"exit {n}"]) for n in range(40)))
            assert set(threading.enumerate()) <= before
        assert [r.returncode for r in made] == list(range(40))

    on_a_loop(work)


@pytest.mark.parametrize("how", ["timeout", "cancel", "wall_time", "output", "wish"])
def test_every_way_of_ending_a_run_leaves_nothing(how: str) -> None:
    async def work() -> None:
        async with aio.Template() as t:
            if how == "timeout":
                with pytest.raises(pyminicon.TimeoutExpired):
                    await t.run(["sleep", "100"], timeout=0.3)
            elif how == "wall_time":
                assert (await t.run(["sleep", "100"], wall_time=0.3)).limit == "wall_time"
            elif how == "output":
                r = await t.run(["sh", "-c", "while echo x; do :; done"], max_output=100, capture_output=True)
                assert (r.limit, len(r.stdout)) == ("output", 100)
            elif how == "wish":
                wish = pyminicon.Cancel()
                asyncio.get_running_loop().call_later(0.3, wish.cancel)
                with pytest.raises(pyminicon.Cancelled):
                    await t.run(["sleep", "100"], cancel=wish)
            else:
                tasks = [asyncio.ensure_future(t.run(["sleep", "100"], stdout=DEVNULL)) for _ in range(12)]
                for turn, task in enumerate(tasks):
                    await asyncio.sleep(0.005 * turn)
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(one, asyncio.CancelledError) for one in ended)

    on_a_loop(work)


def test_volumes_are_bound_when_it_is_made(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("here")

    async def work() -> None:
        async with aio.Template(volumes=[f"{source}:/v:ro"], stock=1) as t:
            source.rename(tmp_path / "moved")
            made = await asyncio.gather(*(t.run(["cat", "/v/file"], stdout=PIPE) for _ in range(3)))
            assert {r.stdout for r in made} == {b"here"}

    on_a_loop(work)


def test_who_is_cancelled_while_it_is_made_leaves_nothing() -> None:
    async def work() -> None:
        for pause in (0.0, 0.001, 0.005):
            t = aio.Template()
            opening = asyncio.ensure_future(t.run(["true"]))
            await asyncio.sleep(pause)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await t.close()

    on_a_loop(work)
