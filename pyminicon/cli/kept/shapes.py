"""What ``--format`` makes of what is known: JSON, or a template of docker's as far as it names fields."""

from __future__ import annotations

import json

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def line(template: str, fields: dict[str, Any]) -> str:
    """``template`` with the fields in it: ``{{.State.Status}}``, ``{{json .Labels}}``. Raises SpecError."""
    made = []
    rest = template.replace("\\t", "\t").replace("\\n", "\n")
    while True:
        before, braces, rest = rest.partition("{{")
        made.append(before)
        if not braces:
            return "".join(made)
        inner, end, rest = rest.partition("}}")
        if not end:
            raise SpecError("--format", f"{template!r}: '{{{{' without '}}}}'")
        made.append(_value(inner.split(), fields, template))


def _value(words: list[str], fields: dict[str, Any], template: str) -> str:
    as_json = words[:1] == ["json"]
    if len(words) != 1 + as_json or not words[-1].startswith("."):
        raise SpecError("--format", f"takes json, {{{{.Field}}}} and {{{{json .Field}}}}, not {template!r}")
    value: Any = fields
    for key in words[-1].split(".")[1:]:
        if not key:
            continue
        if not isinstance(value, dict) or key not in value:
            known = " ".join(value) if isinstance(value, dict) else "nothing"
            raise SpecError("--format", f"{words[-1]}: no {key!r}; there is {known:.80}")
        value = value[key]
    if as_json or isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns, the first row their names."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{one.rstrip()}\n" for one in lines)


def printable(text: str) -> str:
    """What a stranger may have chosen, on a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
