"""What a page says of the tree is so: files and functions it names, its links, and the width of its lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pyminicon

TOP = Path(__file__).resolve().parents[2]
PAGES = [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md"), TOP / "benchmarks/README.md"]
DESIGN = TOP / "docs/design.md"

#: In a page: a path of the tree with a folder before it.
PATH = re.compile(r"`((?:csrc|pyminicon|tests|tools|benchmarks|docs)/[\w./*-]+)`")


def prose(text: str) -> list[str]:
    """The lines that aren't code, tables or pictures."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "    ", "![", "<!--")):
            lines.append(line)
    return lines


def anchors(text: str) -> set[str]:
    """The names that headings have, as GitHub makes them."""
    names = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}


def hops() -> list[tuple[str, str, str]]:
    """(number, what happens, where) of each row on the way of one call."""
    section = DESIGN.read_text().split("### The way of one call")[1].split("###")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if re.match(r"\| \d", line)]
    return [(row[0], row[1], row[2]) for row in rows]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_prose_is_wider_than_120_columns(page: Path) -> None:
    assert [line for line in prose(page.read_text()) if len(line) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    missing = [name for name in PATH.findall(page.read_text()) if not list(TOP.glob(name.rstrip("/")))]
    built = {"benchmarks/results/*.json"} if not (TOP / "benchmarks/results").exists() else set()
    assert set(missing) - built == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose(page.read_text()))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def test_the_way_of_one_call_has_at_most_fifteen_hops() -> None:
    numbers = [int(number) for number, _, _ in hops()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 10 <= len(numbers) <= 15


@pytest.mark.parametrize("hop", hops(), ids=lambda hop: hop[0])
def test_each_hop_is_where_the_page_says(hop: tuple[str, str, str]) -> None:
    """``function`` in ``file``, or a file alone; paths of Python may leave out the package."""
    named = re.findall(r"(?:`(\w+)` in )?`([\w/]+\.(?:py|cc))`", hop[2])
    assert named
    for function, name in named:
        file = TOP / name if (TOP / name).exists() else TOP / "pyminicon" / name
        text = file.read_text()
        defined = rf"^(?:def {function}|[\w:<>&\* ]*\b{function}\(|constexpr Step {function}\[)"
        assert not function or re.search(defined, text, re.MULTILINE), (function, name)


def test_the_reference_has_every_public_name() -> None:
    text = (TOP / "docs/reference/index.rst").read_text()
    named = set(re.findall(r"auto\w+:: ([\w.]+)", text)) | set(
        re.findall(r"^(?:.. data:: | {10})(\w+)$", text, re.MULTILINE)
    )
    named = {name.removeprefix("pyminicon.") for name in named}
    assert set(pyminicon.__all__) - named == set()
    assert {f"aio.{name}" for name in pyminicon.aio.__all__} - named == set()


def test_the_map_has_every_room_and_no_other() -> None:
    table = DESIGN.read_text().split("## Theory of operation")[1].split("###")[0]
    rows = dict(re.findall(r"^\| `((?:pyminicon|csrc)/[\w*.]+)` \| (.*) \|$", table, re.MULTILINE))
    rooms = [path for top in ("pyminicon", "csrc") for path in (TOP / top).iterdir() if path.is_dir()]
    there = {path.relative_to(TOP).as_posix() for path in rooms if path.name != "__pycache__"}
    assert rows.keys() == there | {"pyminicon/*.py"}
    for name in ("csrc/child", "csrc/parent", "csrc/bind"):
        inner = {path.name for path in (TOP / name).iterdir() if path.is_dir()}
        assert inner <= set(re.findall(r"\w+", rows[name])), name
    modules = {path.stem for path in (TOP / "pyminicon").glob("*.py")}
    unnamed = {"__init__", "__main__", "_checkout"}  # what Python asks for; a checkout
    assert modules - unnamed <= set(re.findall(r"\w+", rows["pyminicon/*.py"]))


def test_a_page_that_names_what_is_gone_would_be_seen() -> None:
    assert PATH.findall("see `csrc/child/gone.cc`, `csrc/parent/*/*.cc`") == [
        "csrc/child/gone.cc",
        "csrc/parent/*/*.cc",
    ]
    assert not list(TOP.glob("csrc/child/gone.cc"))
    assert prose("a\n| b |\n    c\n```\nd\n```\ne") == ["a", "e"]
