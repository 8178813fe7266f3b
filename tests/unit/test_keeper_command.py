"""A keeper's command and the line of whoever asked for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pyminicon.keeper import command as commands


class _Begun:
    """One that has begun before anybody asks."""

    fd = -1

    def __init__(self, box: Any, request: Any) -> None:
        self.handle = SimpleNamespace(
            id="a", pidfd=-1, pid=7, host_pid=None, startup=0.0, take_stream=lambda _: -1
        )

    def result(self) -> Any:
        return self.handle


@pytest.mark.parametrize("detached", [True, False])
def test_one_that_runs_at_once_belongs_to_its_line_unless_it_is_detached(
    monkeypatch: pytest.MonkeyPatch, detached: bool
) -> None:
    monkeypatch.setattr(commands._core, "Begun", _Begun)
    keeper: Any = SimpleNamespace(
        server=SimpleNamespace(commands=set()),
        loop=SimpleNamespace(watch=lambda fd, call: None),
        box=SimpleNamespace(_handle=None),
    )
    said: list[Any] = []
    client: Any = SimpleNamespace(command=None, say=lambda *words: said.append(words))
    made = commands.Command(keeper, client, None, [], detached)  # type: ignore[arg-type]
    assert said and made in keeper.server.commands
    assert (client.command is None) == (made.client is None) == detached
