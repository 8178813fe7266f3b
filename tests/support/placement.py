"""Whether a limit can be applied here."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest

import pyminicon


@functools.cache
def _refusal(option: str, value: Any) -> str:
    try:
        pyminicon.run(["/bin/true"], **{option: value})
    except pyminicon.LaunchError as error:
        return str(error)
    return ""


def needs_limit(option: str, value: Any) -> None:
    """Skips the test where the limit can't be applied, which only a container can tell."""
    if refusal := _refusal(option, value):
        what = "the controller" if os.geteuid() == 0 else "a cgroup of the user's own"
        pytest.skip(f"needs {what}: {refusal}")
