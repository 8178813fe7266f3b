"""What ``pip install`` calls: scikit-build-core, after a word on the machine.

It fetches CMake and Ninja only where the machine has none, and builds in a directory that is gone afterwards.
"""

from __future__ import annotations

import os
import sys

if not sys.platform.startswith("linux"):
    sys.exit(f"pyminicon needs Linux: containers are made by its kernel, which {sys.platform} hasn't.")

from scikit_build_core.build import *  # noqa: F403

# Ninja uses all processors by itself; make, which stands in for it, only when told.
os.environ.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(len(os.sched_getaffinity(0))))
