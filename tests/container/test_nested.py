"""A container started inside another: it works, or the error names the cause and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pyminicon

HERE = str(Path(pyminicon.__file__).resolve().parents[1])
UNCONFINED = "--security-opt seccomp=unconfined"


@pytest.fixture(autouse=True)
def _for_root(needs_root: None) -> None:
    """What an ordinary user can give away to an inner container is not enough for it."""


def nested(*words: str, **options: Any) -> pyminicon.Result:
    """``python -m pyminicon`` with ``words`` in a container with ``options``."""
    return pyminicon.run(
        ["python", "-m", "pyminicon", *words],
        image="python", volumes=[f"{HERE}:{HERE}:ro"], env={"PYTHONPATH": HERE}, capture_output=True, text=True, **options,
    )  # fmt: skip


def test_it_works_with_all_that_it_takes() -> None:
    r = nested("run", "host", "echo", "inner", seccomp="unconfined", cap_add=["ALL"])
    assert (r.returncode, r.stdout) == (0, "inner\n"), r.stderr


@pytest.mark.parametrize("user", [None, "1000"])
def test_the_default_profile_is_named_with_the_remedy(user: str | None) -> None:
    r = nested("run", "host", "true", user=user)
    assert r.returncode == 125
    assert r.stderr.startswith(
        "pyminicon: watch: clone3: Function not implemented (this process is under a seccomp"
    )
    assert UNCONFINED in r.stderr and "clone3" in r.stderr


def test_a_core_limit_that_is_kept_low_is_no_obstacle() -> None:
    for words in ([], ["--network", "host"]):
        r = nested("run", *words, "host", "true", cap_add=["SYS_ADMIN"])
        assert r.stderr.startswith("pyminicon: pivot_root: Operation not permitted (this process is under"), (
            r.stderr
        )
        assert UNCONFINED in r.stderr


def test_a_loopback_that_may_not_be_brought_up_is_named_with_what_goes_without() -> None:
    r = nested("run", "host", "true", cap_add=["SYS_ADMIN"], seccomp="unconfined")
    assert r.stderr.startswith("pyminicon: loopback: Operation not permitted (a loopback"), r.stderr
    assert 'network="host" goes without' in r.stderr


def test_doctor_names_the_profile_too() -> None:
    r = nested("doctor")
    assert r.returncode == 1
    after = r.stdout.partition("NO  clone3")[2]
    assert "remedy: this process is under a seccomp filter" in after.partition("\nok")[0]
    assert "pid namespace" in after
