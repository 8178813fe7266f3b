"""The harness itself: what it counts, and that it takes turns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.measure import Case, figures, in_turns


def test_percentiles_are_values_that_were_measured() -> None:
    found = figures([n * 1000 for n in range(1, 101)])
    assert (found.number, found.least, found.p50, found.p90, found.p99) == (100, 1.0, 51.0, 91.0, 100.0)


def test_every_contestant_runs_once_a_round() -> None:
    log: list[str] = []

    def case(name: str) -> Case:
        return Case(name, lambda: log.append(name) or 1)

    found = in_turns([case("a"), case("b"), case("c")], 30, warm_up=2)
    assert {name: f.number for name, f in found.items()} == {"a": 30, "b": 30, "c": 30}
    rounds = [log[6 + i : 9 + i] for i in range(0, 90, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1  # the order changes


def test_a_spent_budget_still_gives_twenty_rounds() -> None:
    assert in_turns([Case("a", lambda: 1)], 500, budget=0.0)["a"].number == 20


def test_a_failing_contestant_ends_the_measurement() -> None:
    def fail() -> int:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        in_turns([Case("a", fail)], 3)


def test_a_result_file_says_on_what_machine_it_was_made(tmp_path: Path) -> None:
    path = report.save("ladder", {"rows": []}, quick=False, folder=tmp_path)
    body = json.loads(path.read_text())
    assert path.name == "ladder.json"
    assert body["benchmark"] == "ladder" and body["quick"] is False
    assert {"kernel", "cpus", "processor", "python", "mounts", "load", "peers"} <= body["machine"].keys()
    assert [p.name for p in tmp_path.iterdir()] == ["ladder.json"]


def test_a_quick_run_never_overwrites_a_measurement(tmp_path: Path) -> None:
    report.save("ladder", {"rows": []}, quick=False, folder=tmp_path)
    report.save("ladder", {"rows": []}, quick=True, folder=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ladder.json", "ladder.quick.json"]


def test_what_was_not_measured_is_a_dash_and_not_a_zero() -> None:
    lines = report.table("t", ("name", "p50"), [("a", None), ("b", 1234.5), ("c", 1.234)]).splitlines()
    assert [line.split()[-1] for line in lines] == ["t", "p50", "-", "1234", "1.23"]
