"""Short words for the commonest test: a line of shell in a container."""

from __future__ import annotations

from typing import Any

import pyminicon


def sh(line: str, **options: Any) -> pyminicon.Result:
    """Runs a line of shell, both streams captured as text."""
    return pyminicon.run(["sh", "-c", line], capture_output=True, text=True, **options)


def out(line: str, **options: Any) -> str:
    """What a line of shell prints; it must succeed and say nothing on stderr."""
    r = sh(line, **options)
    assert (r.returncode, r.stderr) == (0, ""), r
    text: str = r.stdout
    return text
