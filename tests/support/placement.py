"""Where a container's cgroup can be made here."""

from __future__ import annotations

import os
from typing import Any

import pytest

import pyminicon
from pyminicon import cgroups


def placement(option: str, value: Any) -> dict[str, Any]:
    """What else `run` needs here so that the limit can be applied; skips where it can't."""
    for more in ({}, {"cgroup_parent": ".."}):
        try:
            cgroups.plan(cgroups.check(**{option: value}, **more))  # type: ignore[arg-type]
        except pyminicon.Error as error:
            reason = str(error)
        else:
            return more
    pytest.skip("needs root" if os.geteuid() else f"needs the controller: {reason}")
