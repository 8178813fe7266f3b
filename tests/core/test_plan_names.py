"""A plan is a dict: a name in it that nobody knows is an error, not a protection left out."""

from __future__ import annotations

import pytest

from pyminicon import _core

WHOLE = {"seccomp": None, "namespaces": 0, "no_new_privs": True}


@pytest.mark.parametrize(
    "name", ["secomp", "seccomp ", "Seccomp", "no_new_priv", "capabilites", "rlimit", "mount", ""]
)
def test_a_misspelt_name_is_an_error(name: str) -> None:
    with pytest.raises(KeyError, match="a plan has no field"):
        _core.Plan({**WHOLE, name: True})


def test_a_plan_that_says_nothing_of_its_filter_is_an_error() -> None:
    without = {name: value for name, value in WHOLE.items() if name != "seccomp"}
    with pytest.raises(KeyError, match="seccomp"):
        _core.Plan(without)


def test_a_plan_of_known_names_is_one() -> None:
    assert _core.Plan(WHOLE) is not None
