"""What the benchmark of mechanisms takes out is there, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import mechanisms, pages
from benchmarks.mechanisms import MECHANISMS, Mechanism

_TOP = Path(mechanisms.__file__).resolve().parent.parent


def _tree(folder: Path, mechanism: Mechanism) -> Path:
    for name, _, _ in mechanism.without:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_TOP / name, folder / name)
    return folder


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda one: one.name)
def test_each_mechanism_can_be_taken_out_of_the_sources_as_they_are(
    tmp_path: Path, mechanism: Mechanism
) -> None:
    tree = _tree(tmp_path, mechanism)
    mechanisms.taken_out(tree, mechanism)
    for name, there, instead in mechanism.without:
        text = (tree / name).read_text()
        assert there not in text and instead in text
        if name.endswith(".py"):
            compile(text, name, "exec")


def test_a_source_that_has_moved_is_said_and_not_measured(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\ntwo\n")
    for there in ("three", "two"):
        with pytest.raises(RuntimeError, match=r"x: a\.py has [02] lines with"):
            mechanisms.taken_out(tmp_path, Mechanism("x", ("run",), (("a.py", there, "four"),)))
    assert (tmp_path / "a.py").read_text() == "one\ntwo\ntwo\n"


def test_the_table_says_times_as_much_for_each_mode() -> None:
    gain = {"p50": 1.25, "p99": 2.0, "cpu": 0.9}
    row = {"mechanism": "x", "case": "run", "idle": {"gain": gain}, "busy": {"gain": gain}}
    text = pages.mechanisms({"rows": [{**row, "loaded": {"gain": gain}}]})
    assert "| x | run | 1.25 2.00 0.90 | 1.25 2.00 0.90 | 1.25 2.00 0.90 |" in text
