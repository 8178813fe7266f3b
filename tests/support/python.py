"""Fresh interpreters, for what would disturb this one, with the same pyminicon that the tests have."""

from __future__ import annotations

import os
import subprocess
import sys


def environment() -> dict[str, str]:
    """Ours, with the modules found where we find them, whatever the working directory."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def fresh(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs Python ``code`` in a fresh interpreter; from / because -c puts the working directory first."""
    options.setdefault("timeout", 90)
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd="/",
        **options,
    )
