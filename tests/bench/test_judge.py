"""What a judge's turns come to."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import judge


def one(name: str, p99: float, judged: int = 300) -> dict[str, Any]:
    figures = {"p50": 1.0, "p90": 2.0, "p99": p99, "number": 10}
    return {"name": name, "seconds": 60.0, "judged": judged, **figures}


def test_a_figure_is_the_median_of_its_servers_turns_and_the_ratio_that_of_both() -> None:
    turns = [one(judge.PLAIN_NAME, 40.0), one("pyminicon.aio", 10.0), one("pyminicon.aio", 30.0)]
    ours, plain = judge.rows_of(turns)
    assert (ours["name"], ours["p99"], ours["turns"], ours["pings"]) == ("pyminicon.aio", 20.0, 2, 20)
    assert (ours["ratio"], plain["ratio"]) == (0.5, 1.0)


def test_a_turn_of_one_server_alone_has_no_ratio() -> None:
    (row,) = judge.rows_of([one("pyminicon.aio", 10.0)])
    assert row["ratio"] is None


def test_turns_of_as_many_submissions_are_kept_and_no_others(tmp_path: Path) -> None:
    turns = [one("pyminicon.aio", 10.0)]
    (tmp_path / "judge.json").write_text(json.dumps({"submissions": 300, "turns": turns}))
    options = argparse.Namespace(results=tmp_path, quick=False)
    assert judge._turns_before(options, 300) == turns
    assert judge._turns_before(options, 60) == []
    (tmp_path / "judge.json").write_text(json.dumps({"submissions": 300, "rows": []}))
    assert judge._turns_before(options, 300) == []
