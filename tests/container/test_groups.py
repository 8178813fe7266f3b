"""The primary group is among the supplementary ones, in every kind of container."""

from __future__ import annotations

from typing import Any

import pytest

import pyminicon


def groups(**options: Any) -> list[int]:
    r = pyminicon.run(
        ["python", "-c", "import os; print(*os.getgroups())"],
        image="python",
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    return [int(word) for word in r.stdout.split()]


@pytest.mark.parametrize("more", [{}, {"init": True}, {"userns": "private"}, {"read_only": True}])
def test_the_primary_group_is_among_the_supplementary_ones(more: dict[str, Any], needs_root: None) -> None:
    assert groups(**more) == [0]
    assert groups(user="4711", **more) == [0]  # as docker has it, for a number without an entry
    assert groups(user="1000:2000", **more) == [2000]
    with pyminicon.Template(image="python", user="1000:2000", **more) as template:
        r = template.run(
            ["python", "-c", "import os; print(os.getgroups())"], capture_output=True, text=True, timeout=60
        )
        assert r.stdout == "[2000]\n"
