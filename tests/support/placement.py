"""Whether a limit can be applied here."""

from __future__ import annotations

import os
from typing import Any

import pytest

import pyminicon
from pyminicon import cgroups


def needs_limit(option: str, value: Any) -> None:
    """Skips the test where the limit can't be applied."""
    try:
        cgroups.plan(cgroups.check(**{option: value}))
    except pyminicon.Error as error:
        pytest.skip("needs root" if os.geteuid() else f"needs the controller: {error}")
