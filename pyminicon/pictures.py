"""What people look at: a start as a timeline, a result as a table; for notebooks and for whoever opens a file.

Loaded when somebody looks.
"""

from __future__ import annotations

import html
import itertools
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_COLOURS = ("#4e79a7", "#f28e2b", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#9c755f")
_WIDTH, _ROW, _LEFT, _RIGHT = 720, 16, 120, 90


class Trace(list[tuple[str, int]]):
    """The stages of a start, as (stage, nanoseconds since the call) each began; a notebook shows it as a timeline."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return timeline(self)


def spans(stamps: Iterable[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """(stage, when it began, how long it took), in nanoseconds; the last stage has no end but the program's start."""
    rows = list(stamps)
    return [(stage, begun, after - begun) for (stage, begun), (_, after) in itertools.pairwise(rows)]


def timeline(stamps: Iterable[tuple[str, int]]) -> str:
    """An SVG with a bar for each stage."""
    rows = spans(stamps)
    if not rows:
        return "<svg xmlns='http://www.w3.org/2000/svg' width='0' height='0'></svg>"
    total = max(begun + took for _, begun, took in rows) or 1
    scale = (_WIDTH - _LEFT - _RIGHT) / total
    height = _ROW * (len(rows) + 1)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height}' "
        "font-family='sans-serif' font-size='11' fill='currentColor'>"
    ]
    for number, (stage, begun, took) in enumerate(rows):
        y, x, wide = number * _ROW, _LEFT + begun * scale, max(took * scale, 1.0)
        parts.append(
            f"<g><title>{_text(stage)}: {took / 1e3:.1f} us from {begun / 1e3:.1f} us on</title>"
            f"<text x='{_LEFT - 6}' y='{y + 12}' text-anchor='end'>{_text(stage)}</text>"
            f"<rect x='{x:.1f}' y='{y + 2}' width='{wide:.1f}' height='{_ROW - 4}' "
            f"fill='{_COLOURS[number % len(_COLOURS)]}'/>"
            f"<text x='{x + wide + 4:.1f}' y='{y + 12}'>{took / 1e3:.1f} us</text></g>"
        )
    parts.append(f"<text x='{_LEFT}' y='{height - 4}'>{total / 1e6:.2f} ms in all</text></svg>")
    return "".join(parts)


def table(rows: Iterable[tuple[str, Any]], caption: str = "") -> str:
    """Names and values, as HTML; what is None isn't shown."""
    body = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{_text(name)}</th>"
        f"<td style='text-align:left'>{_shown(value)}</td></tr>"
        for name, value in rows
        if value is not None
    )
    head = f"<caption style='text-align:left'>{_text(caption)}</caption>" if caption else ""
    return f"<table>{head}{body}</table>"


_LONGEST = 4000
#: What neither HTML nor UTF-8 has a place for.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _text(text: str) -> str:
    """``text`` as a page shows it: no markup in it, control characters as their pictures. A notebook is saved as UTF-8
    JSON and fails on a lone surrogate, which is how text has the bytes that weren't any."""

    def picture(found: re.Match[str]) -> str:
        number = ord(found[0])
        if number < 0x20:
            return chr(0x2400 + number)
        return "\u2421" if number == 0x7F else "\ufffd"

    return html.escape(_UNFIT.sub(picture, text))


def _shown(value: Any) -> str:
    nested = getattr(value, "_repr_html_", None)
    if nested is not None:
        drawn: str = nested()
        return drawn
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return f"<pre style='margin:0'>{_text(_cut(value))}</pre>"
    return _text(_cut(repr(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} in all)"


def usage(figures: Any) -> str:
    from pyminicon import sizes

    def told(name: str, value: Any) -> str | None:
        if value is None:
            return None
        if name in ("wall", "user", "system"):
            return f"{value:.3f} s"
        return f"{value}" if name.startswith("pids") else sizes.about(value)

    names = ("wall", "user", "system", "memory", "memory_peak", "pids", "pids_peak", "io_read", "io_written")
    return table((name.replace("_", " "), told(name, getattr(figures, name, None))) for name in names)


def result(ended: Any) -> str:
    return table(
        [
            ("args", ended.args),
            ("returncode", ended.returncode),
            ("limit", ended.limit),
            ("stdout", ended.stdout),
            ("stderr", ended.stderr),
            ("dropped", ended.dropped if any(ended.dropped) else None),
            ("files", {path: len(data) for path, data in ended.files.items()} or None),
            ("not collected", ended.collect_errors or None),
            ("refused", ended.refused or None),
            ("startup", f"{ended.startup * 1e3:.2f} ms"),
            ("usage", ended.usage),
            ("trace", ended.trace),
        ]
    )


def container(box: Any) -> str:
    state = "running" if box.returncode is None else f"ended with {box.returncode}"
    return table(
        [
            ("state", f"{state}, by its limit: {box.limit}" if box.limit else state),
            ("args", box.args),
            ("pid", box.pid),
            ("startup", f"{box.startup * 1e3:.2f} ms"),
            ("usage", box.usage),
            ("trace", box.trace),
        ],
        f"container {box.id}",
    )


def events(stamps: Iterable[tuple[str, int]], name: str, program: str, wall: float) -> dict[str, Any]:
    """The start and the run in the Trace Event format, which Perfetto and chrome://tracing open."""
    rows = [(stage, begun, took, "start") for stage, begun, took in spans(stamps)]
    begun = max((begun + took for _, begun, took, _ in rows), default=0)
    rows.append((program.encode(errors="replace").decode(), begun, round(wall * 1e9), "run"))
    shown: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": f"container {name}"}}
    ]
    shown += [
        {"name": what, "cat": kind, "ph": "X", "ts": at / 1e3, "dur": took / 1e3, "pid": 1, "tid": 1}
        for what, at, took, kind in rows
    ]
    return {"traceEvents": shown, "displayTimeUnit": "ns"}
