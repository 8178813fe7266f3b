"""What the core is asked, and what it answers, have named fields: none can be misspelt or left out."""

from __future__ import annotations

from typing import Any

import pytest

from pyminicon import _core

WHOLE: dict[str, Any] = {
    "exec_spec": (["/bin/true"], ["true"], [], "/"),
    "stdio": (0, 1, 2),
    "pass_fds": (),
    "trace": False,
    "wall_time": None,
    "cpu_time": 0.0,
    "max_output": 1,
}
ENDED: dict[str, Any] = {
    "returncode": 0,
    "stdout": None,
    "stderr": None,
    "limit": None,
    "timed_out": False,
    "usage": None,
    "startup": 0.0,
}
KINDS = [(_core.Request, WHOLE), (_core.Outcome, ENDED)]


@pytest.mark.parametrize(("kind", "whole"), KINDS)
def test_a_whole_one_can_be_made_and_its_fields_read(kind: Any, whole: dict[str, Any]) -> None:
    made = kind(**whole)
    for name, value in whole.items():
        got = getattr(made, name)
        assert (type(value)(got) if isinstance(value, tuple) else got) == value, name


@pytest.mark.parametrize(("kind", "whole"), KINDS)
def test_none_can_be_left_out(kind: Any, whole: dict[str, Any]) -> None:
    for name in whole:
        without = {other: value for other, value in whole.items() if other != name}
        with pytest.raises(TypeError):
            kind(**without)


@pytest.mark.parametrize(("kind", "whole"), KINDS)
def test_an_unknown_one_can_be_neither_given_nor_written(kind: Any, whole: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        kind(**whole, wal_time=1.0)
    with pytest.raises(AttributeError):
        kind(**whole).wal_time = 1.0


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError):
        _core.Request(**{**WHOLE, "stdio": (0, 1)})
    request = _core.Request(**WHOLE)
    request.cancel_fd = 3
    with pytest.raises(TypeError):
        request.cancel_fd = "3"  # type: ignore[assignment]
    assert request.cancel_fd == 3
