"""``pyminicon doctor``: what this machine offers and lacks, by trying it.

Every line is a thing that was tried just now, for real: in a child process, or as a small container.
"""

from __future__ import annotations

import os
import sys

from pyminicon.cli import doctor_rows
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cli.doctor_rows import Row

_MARKS = {"ok": "ok", "no": "NO", "none": "--"}


def main(words: list[str]) -> int:
    """Prints the table, or JSON with ``--json``; 0 if `run` works here, else 1."""
    for word in words:
        if word in ("--help", "-h"):
            sys.stdout.write("Usage: pyminicon doctor [--json]\n\n" + (__doc__ or "").partition("\n\n")[2])
            return 0
        if word != "--json":
            raise SpecError(word, "no such option; doctor takes --json")
    rows = doctor_rows.examine()
    works = all(row.mark == "ok" for row in rows if row.needed)
    if "--json" in words:
        import json

        fields = [{name: getattr(row, name) for name in row.__slots__} for row in rows]
        text = json.dumps({"run_works": works, "checks": fields}, indent=1) + "\n"
    else:
        text = _table(rows, works)
    sys.stdout.write(text)
    return 0 if works else 1


def _table(rows: list[Row], works: bool) -> str:
    width = max(len(row.name) for row in rows)
    lines = []
    said = ""
    for row in rows:
        lines.append(f"{_MARKS[row.mark]:<3} {row.name:<{width}}  {row.seen}".rstrip())
        if row.mark != "ok":
            indent = " " * (width + 6)
            lines += [f"{indent}without: {row.lost}"] if row.lost else []
            lines += (
                [f"{indent}remedy: {'as above' if row.remedy == said else row.remedy}"] if row.remedy else []
            )
            said = row.remedy
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    lines += ["", f"`run` works here as {who}." if works else f"`run` doesn't work here as {who}."]
    return "\n".join(lines) + "\n"
