"""The page of figures says what the files say."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import pages, report

_MACHINE = {
    "kernel": "6.18", "virtual": True, "cpus": 2, "processor": "x", "cgroup": "v1", "python": "3.11.7",
    "mounts": 20, "load": [0.5, 0, 0], "commit": "abc1234",
}  # fmt: skip
_PAGE = "before\n<!-- table: peers -->\nold 9.99\n<!-- end -->\nafter\n"


def _write(folder: Path) -> None:
    row = {"name": "runc", "busy": {"p50": 15000.0}, "times_ours": {"busy": {"pyminicon.run": 41.5}}}
    body = {"quick": False, "made": "2026-01-01T00:00:00Z", "machine": _MACHINE, "rows": [row]}
    (folder / "peers.json").write_text(json.dumps(body))


def test_a_table_is_made_anew_from_its_file(tmp_path: Path) -> None:
    _write(tmp_path)
    text = pages.filled(_PAGE, tmp_path)
    assert "| runc | 15.00 | 41.50 |" in text and "9.99" not in text
    assert text.startswith("before\n<!-- table: peers -->\n") and text.endswith("<!-- end -->\nafter\n")
    assert pages.filled(text, tmp_path) == text


def test_a_table_without_a_file_stays_as_it_is(tmp_path: Path) -> None:
    assert pages.filled(_PAGE, tmp_path) == _PAGE


def test_the_committed_page_is_what_the_committed_files_say() -> None:
    for page in pages.PAGES:
        text = page.read_text()
        assert pages.filled(text, report.RESULTS) == text


def test_every_benchmark_has_a_table_on_the_page() -> None:
    text = "".join(page.read_text() for page in pages.PAGES)
    assert all(f"<!-- table: {name} -->" in text for name in pages.TABLES)
