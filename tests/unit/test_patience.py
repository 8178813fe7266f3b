"""Work in a thread of its own, where there is none to be had."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import pyminicon
from pyminicon import patience
from pyminicon.aio.thread import in_thread


def refuse(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


def test_no_thread_is_told_to_who_asked_and_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: said.append(context))
        with monkeypatch.context() as patch:
            patch.setattr(patience._thread, "start_new_thread", refuse)
            with pytest.raises(pyminicon.LaunchError, match="prepare: thread"):
                await in_thread(loop, int, None)
        assert await in_thread(loop, int, None) == 0
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(ask())
    gc.collect()
    assert said == []


def test_what_a_signal_left_half_made_goes_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", said.append)
    patience._Held.__new__(patience._Held)
    gone: list[int] = []
    patience._Held(lambda: None, lambda: gone.append(1))
    gc.collect()
    assert (said, gone) == ([], [1])
