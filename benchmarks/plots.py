"""The plots in docs/img, drawn from the JSON files alone: nothing is measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "img"
OURS, FLOOR, OTHERS = "#1f6feb", "#57606a", "#c8ccd1"
LINES = {"floor": FLOOR, "run": OURS, "Template.run": "#8250df", "fork+exec": "#cf222e"}


def _load(folder: Path, name: str) -> dict[str, Any] | None:
    """results/NAME.json; a quick run is drawn only when there is nothing better."""
    for path in (folder / f"{name}.json", folder / f"{name}.quick.json"):
        if path.exists():
            body: dict[str, Any] = json.loads(path.read_text())
            return body
    return None


def _caption(body: dict[str, Any]) -> str:
    machine = body["machine"]
    kind = "virtual machine" if machine["virtual"] else "machine"
    quick = ", a quick run" if body["quick"] else ""
    return f"Linux {machine['kernel']}, {kind} with {machine['cpus']} CPUs, Python {machine['python']}{quick}"


def _figure(width: float, height: float, columns: int = 1) -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "pyminicon", "font.size": 9, "axes.spines.top": False})
    matplotlib.rcParams["axes.spines.right"] = False
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained")


def _save(figure: Any, name: str, body: dict[str, Any]) -> Path:
    from matplotlib import pyplot

    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.supxlabel(_caption(body), fontsize=7, color=FLOOR)
    path = IMAGES / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def draw_peers(body: dict[str, Any]) -> Path:
    """Bars on a logarithmic axis: back to back, and a tick for after 100 ms of idleness."""
    rows = sorted(body["rows"], key=lambda row: -row["busy"]["p50"])
    figure, axes = _figure(7.5, 0.3 * len(rows) + 1)
    for at, row in enumerate(rows):
        ours = row["name"].startswith(("pyminicon", "Template", "python -m pyminicon"))
        colour = OURS if ours else FLOOR if "floor" in row["name"] else OTHERS
        busy = row["busy"]["p50"] / 1e3
        axes.barh(at, busy, color=colour, height=0.65)
        axes.text(busy * 1.06, at, f"{busy:.2f}", va="center", fontsize=8)
        if "idle" in row:
            axes.plot(row["idle"]["p50"] / 1e3, at, "|", color="black", markersize=9)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds, p50, log scale; | after 100 ms of idleness")
    return _save(figure, "peers", body)


#: What the README's chart shows: the words of ``peers`` for it, and what a reader calls it.
FIVE = {
    "subprocess.run bare": "subprocess.run, no container",
    "Template.run": "pyminicon.Template.run",
    "pyminicon.run": "pyminicon.run",
    "bwrap": "bubblewrap",
    "runc": "runc, which docker calls",
}


def draw_five(body: dict[str, Any]) -> Path:
    """Five bars, back to back: for a reader who has half a minute."""
    busy = {row["name"]: row["busy"]["p50"] / 1e3 for row in body["rows"]}
    figure, axes = _figure(7.5, 2)
    for at, name in enumerate(reversed(FIVE)):
        colour = OURS if "pyminicon" in FIVE[name] else OTHERS
        axes.barh(at, busy[name], color=colour, height=0.65)
        axes.text(busy[name] + 0.2, at, f"{busy[name]:.1f} ms", va="center", fontsize=8)
    axes.set_yticks(range(len(FIVE)), list(reversed(FIVE.values())))
    axes.set_xlabel("milliseconds from the call to the end of a tiny program, median")
    return _save(figure, "five", body)


def draw_flat(body: dict[str, Any]) -> Path:
    """A panel for each thing that grows; a flat line is the aim."""
    kinds = {
        "megabytes": "parent's memory, MB",
        "descriptors": "parent's open descriptors",
        "mounts": "mounts on the host",
        "containers": "containers running",
    }
    present = [kind for kind in kinds if body.get(kind)]
    figure, panels = _figure(3 * len(present), 2.8, len(present))
    for axes, kind in zip([panels] if len(present) == 1 else panels, present, strict=True):
        for row in body[kind]:
            levels = list(row["levels"])
            values = [row["levels"][level]["p50"] / 1e3 for level in levels]
            colour = LINES.get(row["name"])
            axes.plot(range(len(levels)), values, "o-", label=row["name"], color=colour, markersize=3)
        axes.set_xticks(range(len(levels)), levels)
        axes.set_yscale("log")
        axes.set_xlabel(kinds[kind])
    first = panels if len(present) == 1 else panels[0]
    first.set_ylabel("milliseconds, p50, log scale")
    first.legend(fontsize=7, frameon=False)
    return _save(figure, "flat", body)


def draw_ladder(body: dict[str, Any]) -> Path:
    """The rungs downward, the floor and the product side by side."""
    rows = [row for row in body["rows"] if "floor" in row]
    figure, axes = _figure(7.5, 0.26 * len(rows) + 1)
    for at, row in enumerate(reversed(rows)):
        axes.barh(at + 0.2, row["floor"]["busy"]["p50"] / 1e3, color=OTHERS, height=0.38, label="C++ floor")
        if "product" in row:
            ours = row["product"]["busy"]["p50"] / 1e3
            axes.barh(at - 0.2, ours, color=OURS, height=0.38, label="pyminicon")
    axes.set_yticks(range(len(rows)), [row["rung"] for row in reversed(rows)])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel("milliseconds, p50, back to back")
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(named.values(), named.keys(), fontsize=8, frameon=False)
    return _save(figure, "ladder", body)


def draw_timeline(body: dict[str, Any]) -> Path:
    """One start from left to right, a bar a stage."""
    lines = body["timeline"]
    figure, axes = _figure(8.5, 1.2 + 0.9 * len(lines))
    from matplotlib import colormaps

    colours = colormaps["tab20"]
    for at, (_, stages) in enumerate(reversed(lines.items())):
        left = 0.0
        for i, (stage, microseconds) in enumerate(stages):
            style = {"color": colours(i % 20), "edgecolor": "white", "linewidth": 0.4}
            axes.barh(at, microseconds, left=left, height=0.5, **style)
            if microseconds > sum(took for _, took in stages) / 40:
                axes.text(left + microseconds / 2, at + 0.3, stage, rotation=35, fontsize=6.5, va="bottom")
            left += microseconds
        axes.text(left * 1.005, at, f"{left:.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(lines)), list(reversed(lines)))
    axes.set_ylim(-0.5, len(lines) - 0.1)
    axes.set_xlabel("microseconds, median of each stage")
    return _save(figure, "timeline", body)


def draw_throughput(body: dict[str, Any]) -> Path:
    """Launches per second over threads."""
    figure, axes = _figure(5.5, 3.2)
    for row in body["rows"]:
        values = row["per_second"]
        axes.plot([int(n) for n in values], list(values.values()), "o-", markersize=3, label=row["name"])
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 32], ["1", "2", "4", "8", "32"])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("threads (asyncio: tasks)")
    axes.set_ylabel("launches per second")
    axes.legend(fontsize=7, frameon=False)
    return _save(figure, "throughput", body)


DRAWERS = {
    "peers": [draw_peers, draw_five],
    "flat": [draw_flat],
    "ladder": [draw_ladder, draw_timeline],
    "throughput": [draw_throughput],
}


def draw_all(results: Path) -> list[Path]:
    """Every plot whose results are there."""
    drawn = []
    for name, drawers in DRAWERS.items():
        body = _load(results, name)
        drawn += [draw(body) for draw in drawers] if body else []
    return drawn
