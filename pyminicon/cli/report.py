"""What ``--trace`` and ``--json`` print on stderr once the container has ended."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.container import Container


def trace(box: Container[Any]) -> None:
    """A line a stage that ran: when it began after the call, how long it took, in microseconds."""
    stamps = box.trace or []
    total = round(box.startup * 1e9)
    lines = [f"{'stage':<14}{'at us':>10}{'took us':>10}{'share':>8}"]
    for index, (stage, begun) in enumerate(stamps):
        if stage == "started":
            continue
        end = stamps[index + 1][1] if index + 1 < len(stamps) else total
        share = (end - begun) / total if total else 0.0
        lines.append(f"{stage:<14}{begun / 1e3:>10.1f}{(end - begun) / 1e3:>10.1f}{share:>8.1%}")
    lines.append(f"{'in all':<14}{'':>10}{total / 1e3:>10.1f}")
    os.write(2, ("\n".join(lines) + "\n").encode())


def as_json(box: Container[Any], name: str | None) -> None:
    """The result as one line of JSON; a figure that the kernel can't give is null, never 0."""
    import json

    usage = box.usage
    fields = {
        "id": box.id,
        "name": name,
        "args": box.args,
        "returncode": box.returncode,
        "limit": box.limit,
        "startup": box.startup,
        "usage": {figure: getattr(usage, figure) for figure in usage.__slots__},
    }
    if box.trace is not None:
        fields["trace"] = box.trace
    os.write(2, (json.dumps(fields) + "\n").encode())
