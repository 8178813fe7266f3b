"""Every program of docs/cookbook.md is run, and what it prints is compared with the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_tutorial import pattern
from tests.support.placement import needs_limit
from tests.support.python import fresh

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cookbook.md"
RECIPES = re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```\n^```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)  # fmt: skip


def test_each_recipe_has_what_it_prints() -> None:
    assert len(RECIPES) == PAGE.read_text().count("```python\n") == PAGE.read_text().count("\n## ")


@pytest.mark.parametrize(("title", "program", "prints"), RECIPES, ids=[title for title, *_ in RECIPES])
def test_a_recipe_prints_what_the_page_says(title: str, program: str, prints: str) -> None:
    if re.search(r"\b(memory|pids|cpus|usage)=", program):
        needs_limit("memory", "128M")
    assert re.fullmatch(pattern(prints), fresh(program).stdout), title
