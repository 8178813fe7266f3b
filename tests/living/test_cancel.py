"""Ending from another thread what a call has begun."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.living.conftest import names


def soon_cancelled() -> pyminicon.Cancel:
    cancel = pyminicon.Cancel()
    threading.Timer(0.3, cancel.cancel).start()
    return cancel


def test_a_run_ends_and_says_so() -> None:
    begun = time.monotonic()
    with pytest.raises(pyminicon.Cancelled):
        pyminicon.run(["sleep", "100"], cancel=soon_cancelled())
    with pyminicon.Template() as t, pytest.raises(pyminicon.Cancelled):
        t.run(["sleep", "100"], cancel=soon_cancelled())
    with pyminicon.start() as c:
        with pytest.raises(pyminicon.Cancelled):
            c.run(["sh", "-c", "setsid sleep 70 & sleep 71"], cancel=soon_cancelled())
        assert names(c) == [] and c.run(["true"], cancel=pyminicon.Cancel()).returncode == 0
    assert time.monotonic() - begun < 30


def test_what_was_started_with_it_is_ended() -> None:
    cancel = pyminicon.Cancel()
    with pyminicon.start(["sleep", "100"], cancel=cancel) as box, pyminicon.start() as c:
        with c.start(["sleep", "100"], cancel=cancel) as p:
            cancel.cancel()
            assert (box.wait(10), p.wait(10), c.poll()) == (-9, -9, None)
        assert cancel.cancelled


def test_once_cancelled_nothing_begins() -> None:
    cancel = pyminicon.Cancel()
    cancel.cancel()
    with pytest.raises(pyminicon.Cancelled):
        pyminicon.run(["sleep", "100"], cancel=cancel)
    with pytest.raises(pyminicon.SpecError, match="cancel"):
        pyminicon.run(["true"], cancel=3)  # type: ignore[call-overload]


def test_cancelled_before_it_is_refused_by_whatever_takes_it() -> None:
    cancel = pyminicon.Cancel()
    cancel.cancel()
    with pyminicon.Template() as t, pyminicon.start() as c:
        ways = (pyminicon.run, pyminicon.start, t.run, t.start, c.run, c.start)
        for way in [*ways] * 3:
            with pytest.raises(pyminicon.Cancelled):
                way(["true"], cancel=cancel)
        assert names(c) == []
    for begin in (aio.run, aio.start):
        with pytest.raises(pyminicon.Cancelled):
            asyncio.run(begin(["true"], cancel=cancel))


def test_on_a_loop() -> None:
    async def work() -> None:
        async with await aio.start() as c:
            calls: list[Any] = [
                aio.run(["sleep", "100"], cancel=soon_cancelled()),
                c.run(["sleep", "100"], cancel=soon_cancelled()),
            ]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(one) for one in ended] == [pyminicon.Cancelled, pyminicon.Cancelled]

    asyncio.run(asyncio.wait_for(work(), 60))
