"""What `stats` draws of the last seconds."""

from __future__ import annotations

import io
import sys

import pytest

from pyminicon.cli.kept.watching import sparkline


def told_in(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))


def test_columns_are_as_high_as_their_share_of_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    told_in("utf-8", monkeypatch)
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, 0.5, 1.0], 1.0) == "▁▅█"
    assert sparkline([0.0, 0.01], 1.0) == "▁▁", "an idle one doesn't look busy"
    assert sparkline([1.0, 4.0], 1.0) == "▃█"


def test_what_is_not_known_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    told_in("utf-8", monkeypatch)
    assert sparkline([None, 3.0]) == " █"
    assert (sparkline([]), sparkline([None]), sparkline([0.0])) == ("", " ", "▁")


def test_a_terminal_without_these_signs_gets_others(monkeypatch: pytest.MonkeyPatch) -> None:
    told_in("latin-1", monkeypatch)
    assert sparkline([0, 7]) == "_@"
