"""Options of commands that are known."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pyminicon.living import asked
from tests.support.threads import in_threads


def test_threads_that_make_known_at_once_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_environment", lambda box: {})
    known: dict[Any, asked.Settled] = {}
    made: Any = type("Made", (), {"spec": None, "exec_spec": ([], [], [], "/")})
    box: Any = None
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(
            4, lambda number: [asked.settle(known, (number, turn), box, made) for turn in range(20000)]
        )
    finally:
        sys.setswitchinterval(before)
    assert 0 < len(known) <= asked._MOST_SETTLED + 4
