"""What the package says of itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pyminicon

TOP = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert "version" not in PROJECT["project"]
    source = (TOP / "pyminicon/__init__.py").read_text()
    assert re.findall(r'^__version__ = "([^"]+)"$', source, re.MULTILINE) == [pyminicon.__version__]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", pyminicon.__version__)


def test_the_pythons_that_it_says_it_runs_on_are_those_that_ci_tries() -> None:
    said = {line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if "Python :: 3." in line}
    tried = re.search(r"python: \[(.*)\]", (TOP / ".github/workflows/ci.yml").read_text())
    assert tried is not None
    assert said == set(re.findall(r'"([\d.]+)"', tried[1]))
    oldest = min(said, key=lambda word: int(word.split(".")[1]))
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    built = PROJECT["tool"]["cibuildwheel"]["build"].split()
    assert built == [f"cp{word.replace('.', '')}-*" for word in sorted(said)]


def test_the_changelog_has_a_place_for_each_kind_of_change() -> None:
    text = (TOP / "CHANGELOG.md").read_text()
    newest = next(part for part in text.split("\n## [")[1:] if not part.startswith("Unreleased"))
    for kind in ("Added", "Changed", "Removed", "Fixed", "Security"):
        assert f"\n### {kind}\n" in newest
