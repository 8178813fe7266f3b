"""A cgroup that a test makes, and removes when the last of its processes has gone."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path


def remove(group: Path) -> None:
    """Removes a cgroup and those below it. Whoever ended in it may have left a guard, which goes a moment later: the
    kernel says EBUSY until then."""
    deadline = time.monotonic() + 30
    while True:
        try:
            for path, _, _ in os.walk(group, topdown=False):
                os.rmdir(path)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)
