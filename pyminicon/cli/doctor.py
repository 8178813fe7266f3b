"""``pyminicon doctor``: what this machine offers and lacks, by trying it.

Every line is a thing that was tried just now, for real: in a child process, or as a small container.
"""

from __future__ import annotations

import sys

from pyminicon.cli import doctor_rows
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cli.doctor_rows import Row

_MARKS = {"ok": "ok", "no": "NO", "none": "--"}


def main(words: list[str]) -> int:
    """Prints the table, JSON with ``--json``, or the commands that help with ``--fix``; 0 if all that a plain user
    expects works here, else 1."""
    for word in words:
        if word in ("--help", "-h"):
            sys.stdout.write(
                "Usage: pyminicon doctor [--json | --fix]\n\n"
                + (__doc__ or "").partition("\n\n")[2].rstrip()
                + "\n\nExamples:\n  pyminicon doctor\n  pyminicon doctor --fix\n"
            )
            return 0
        if word not in ("--json", "--fix"):
            raise SpecError(word, "no such option; doctor takes --json and --fix")
    from pyminicon.cli import verdict

    rows = doctor_rows.examine()
    verdicts = verdict.verdicts(rows)
    if "--json" in words:
        import json

        found = {
            "run_works": all(row.mark == "ok" for row in rows if row.needed),
            "works": {one.name: one.works for one in verdicts},
            "checks": [{name: getattr(row, name) for name in row.__slots__} for row in rows],
        }
        text = json.dumps(found, indent=1) + "\n"
    elif "--fix" in words:
        text = verdict.commands(rows, verdicts)
    else:
        text = _table(rows) + "\n" + "".join(f"{one}\n" for one in verdicts)
    sys.stdout.write(text)
    return 0 if all(one.works for one in verdicts) else 1


def _table(rows: list[Row]) -> str:
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
    return "\n".join(lines) + "\n"
