"""What ``--trace`` and ``--json`` print on stderr once the container has ended."""

from __future__ import annotations

import os

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyminicon.container import Container
    from pyminicon.errors import LaunchError


_BAR = 32  # columns


def trace(box: Container[Any], wanted: object) -> None:
    """A line a stage that ran: when it began after the call, how long it took, in microseconds; on a terminal with a
    bar. A file's name instead: into that, for Perfetto."""
    if isinstance(wanted, str):
        return _trace_file(wanted, box)
    stamps = box.trace or []
    total = round(box.startup * 1e9)
    draws = os.isatty(2)
    lines = [f"{'stage':<14}{'at us':>10}{'took us':>10}{'share':>8}"]
    for index, (stage, begun) in enumerate(stamps):
        if stage == "started":
            continue
        end = stamps[index + 1][1] if index + 1 < len(stamps) else total
        share = (end - begun) / total if total else 0.0
        bar = f"  {_bar(begun, end, total)}" if draws else ""
        lines.append(f"{stage:<14}{begun / 1e3:>10.1f}{(end - begun) / 1e3:>10.1f}{share:>8.1%}{bar}")
    lines.append(f"{'in all':<14}{'':>10}{total / 1e3:>10.1f}")
    os.write(2, ("\n".join(lines) + "\n").encode())
    return None


def _bar(begun: int, end: int, total: int) -> str:
    """Where in the whole it lies; what is shorter than a column has one all the same."""
    first = min(begun * _BAR // max(total, 1), _BAR - 1)
    length = max(1, round((end - begun) * _BAR / max(total, 1)))
    return " " * first + "#" * min(length, _BAR - first)


def _trace_file(path: str, box: Container[Any]) -> None:
    import json

    from pyminicon import pictures

    words = box.args if isinstance(box.args, (list, tuple)) else [box.args]
    program = os.fsdecode(words[0]) if words else box.id
    events = pictures.events(box.trace or [], box.id, program, box.usage.wall)
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(events, file)
    except OSError as error:
        raise SpecError("--trace", f"{path}: {error.strerror}") from None


def failure_as_json(error: LaunchError, given: dict[str, Any], args: list[str]) -> None:
    """The like for a container that hasn't come to be."""
    import json

    about = {"stage": error.stage, "errno": error.errno, "subject": error.subject, "message": str(error)}
    fields = _asked(given) | dict.fromkeys(("id", "returncode", "limit", "startup", "usage")) | {"args": args}
    os.write(2, (json.dumps(fields | {"error": about}) + "\n").encode())


def wants_json(words: Sequence[str]) -> bool:
    """Whether the words behind ``run`` ask for it, in front of the image; whatever else may be wrong with them."""
    from pyminicon.cli.options import TABLE
    from pyminicon.cli.words import MANY, ONE

    taking = {f"--{name}" for name, _, kind, *_ in TABLE if kind in (ONE, MANY)}
    taking |= {f"-{letter}" for _, letter, kind, *_ in TABLE if letter and kind in (ONE, MANY)}
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        if words[at] in ("--json", "--json=true"):
            return True
        at += 2 if words[at] in taking else 1
    return False


def refusal_as_json(message: str, option: str | None) -> None:
    """The like for what wasn't even begun; ``option``: which of them can't be."""
    import json

    nothing = dict.fromkeys(("name", "id", "returncode", "limit", "startup", "usage", "args"))
    about = {"stage": None, "errno": None, "subject": option or "", "message": message}
    os.write(2, (json.dumps(nothing | {"error": about}) + "\n").encode())


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": given.get("name")}
    if "label" in given:
        fields["labels"] = {word.partition("=")[0]: word.partition("=")[2] for word in given["label"]}
    return fields


def as_json(box: Container[Any], given: dict[str, Any]) -> None:
    """The result as one line of JSON; a figure that the kernel can't give is null, never 0."""
    import json

    usage = box.usage
    fields = {
        "id": box.id,
        **_asked(given),
        "args": box.args,
        "returncode": box.returncode,
        "limit": box.limit,
        "startup": box.startup,
        "usage": {figure: getattr(usage, figure) for figure in usage.__slots__},
    }
    if "egress" in given:
        fields["refused"] = [
            {"host": one.host, "port": one.port, "reason": one.reason} for one in box.refused
        ]
    if box.trace is not None:
        fields["trace"] = box.trace
    os.write(2, (json.dumps(fields) + "\n").encode())


def write_id(path: str, box: Container[Any]) -> None:
    """The id in a file of its own, which mustn't be there before."""
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(box.id)
    except OSError as error:
        raise SpecError("--cidfile", f"{path}: {error.strerror}") from None
