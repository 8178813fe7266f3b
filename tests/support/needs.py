"""Programs that a test drives and that not every machine has."""

from __future__ import annotations

import shutil

import pytest

#: Program -> Debian's package, where they differ.
PACKAGES = {"ps": "procps", "nm": "binutils", "newuidmap": "uidmap", "ip": "iproute2", "xz": "xz-utils"}


def program(*names: str) -> None:
    """Skip the test, by name, where one of them isn't installed."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"needs the program {name} (apt-get install {PACKAGES.get(name, name)})")
