"""docs/adapters.md's programs."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adapters.md"


def programs(heading: str) -> list[str]:
    """Those below ``heading``, in order."""
    _, found, section = PAGE.read_text().partition(f"\n## {heading}\n")
    assert found, f"{PAGE} has no {heading}"
    return re.findall(r"^```python\n(.*?)^```", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
