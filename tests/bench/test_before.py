"""Another build beside this one: which build is meant, and what the rows say."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from benchmarks import before


def test_a_directory_with_an_installed_package_is_the_build_itself(tmp_path: Path) -> None:
    (tmp_path / "pyminicon").mkdir()
    (tmp_path / "pyminicon" / "_core.abi3.so").touch()
    assert before.build_of(str(tmp_path), tmp_path / "kept") == (tmp_path, tmp_path.name)
    assert not (tmp_path / "kept").exists()


def test_what_is_neither_a_directory_nor_a_commit_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--build no-such-thing: neither a directory nor a commit"):
        before.build_of("no-such-thing", tmp_path)


def test_a_commit_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, made = tmp_path / "tree", []
    tree.mkdir()
    (tree / "pyproject.toml").touch()
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], check=True)

    def install(tree: Path, place: Path) -> None:
        assert (tree / "pyproject.toml").exists()
        made.append(place)
        place.mkdir()

    monkeypatch.setattr(before, "_TOP", tree)
    monkeypatch.setattr(before.mechanisms, "install", install)
    commit = before.commit_of("HEAD")
    for _ in range(2):
        place, name = before.build_of("HEAD", tmp_path)
        assert (place.name, name) == (f"build-{commit[:12]}", commit[:7])
    assert made == [place]


def test_both_builds_have_as_many_turns_and_a_ratio_says_times_before() -> None:
    turns: list[str] = []

    def turn(who: str, took: int, runs: int, idle: float) -> tuple[list[int], float]:
        assert idle == 0.0
        turns.append(who)
        return [took] * runs, took * 2.0

    cases = {"x": (partial(turn, "before", 1000_000), partial(turn, "now", 1100_000))}
    (row,) = before.in_pairs(cases, 4, 0.0, 0.0)
    assert turns.count("before") == turns.count("now") >= 6
    assert set(zip(turns[::2], turns[1::2], strict=True)) <= {("before", "now"), ("now", "before")}
    assert row["before"]["p50"] == 1000.0 and row["now"]["p50"] == 1100.0 and row["now"]["cpu"] == 2200.0
    assert set(row["ratio"].values()) == {1.1}
