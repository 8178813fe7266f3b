"""A pytest plugin: of each test one of its variants, for machines on which all of them take too long.

``PYMINICON_VM_SAMPLE=K`` keeps variant K of a test that has as many, counted around: runs with different K try different ones.
Loaded with ``-p tests.vm.sample``; without the variable it does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def chosen(names: Iterable[str], number: int) -> set[str]:
    """The node ids to keep."""
    variants: dict[str, list[str]] = {}
    for name in names:
        variants.setdefault(name.partition("[")[0], []).append(name)
    return {those[number % len(those)] for those in variants.values()}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number = os.environ.get("PYMINICON_VM_SAMPLE")
    if number is None:
        return
    kept = chosen((item.nodeid for item in items), int(number))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]
