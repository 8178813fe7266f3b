"""docs/stages.md is held to the list of stages that the core has."""

from __future__ import annotations

from pathlib import Path

from pyminicon import _core, _explain

PAGE = Path(__file__).resolve().parents[2] / "docs/stages.md"
CHILD = Path(__file__).resolve().parents[2] / "csrc/child/birth/birth.cc"
HEADER = Path(__file__).resolve().parents[2] / "csrc/base/stage.h"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_page_has_a_row_for_every_stage_in_their_order() -> None:
    assert [row[0].strip("` ") for row in rows()] == list(_core.STAGES)


def test_every_row_is_filled_in() -> None:
    for row in rows():
        assert len(row) == 5, row[0]
        for cell in (row[1], row[3], row[4]):
            assert cell, row[0]


def test_stage_names_are_unique() -> None:
    assert len(set(_core.STAGES)) == len(_core.STAGES)


def test_the_steps_of_the_child_stand_in_the_order_of_the_stages() -> None:
    identifiers = [
        line.split("(")[1].split(",")[0]
        for line in HEADER.read_text().splitlines()
        if line.startswith("  X(k")
    ]
    assert len(identifiers) == len(_core.STAGES)
    birth = CHILD.read_text().split("kBirth[] = {")[1].split("};")[0]
    steps = [word.split(",")[0] for word in birth.split("Stage::")[1:]]
    assert steps == sorted(steps, key=identifiers.index)
    assert len(steps) == len(set(steps)) > 15


def test_hints_are_given_only_for_stages_that_exist() -> None:
    assert set(_explain._EXPLAIN) <= set(_core.STAGES)
