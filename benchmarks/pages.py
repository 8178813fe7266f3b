"""Fills the tables of docs/performance.md, docs/design.md and the README from the JSON files, so that no figure is typed by hand.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; the prose around it is ours.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_TOP = Path(__file__).resolve().parent.parent
PAGE = _TOP / "docs" / "performance.md"
FRONT = _TOP / "README.md"
DESIGN = _TOP / "docs" / "design.md"
PAGES = (PAGE, FRONT, DESIGN)
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _ms(row: dict[str, Any], who: str, mode: str, what: str = "p50") -> float | None:
    value = row.get(who, {}).get(mode, {}).get(what)
    return None if value is None else value / 1e3


def machine(body: dict[str, Any]) -> str:
    """Where and when the file was made."""
    m = body["machine"]
    kind = "virtual machine" if m["virtual"] else "machine"
    quick = " **A quick run: not for quoting.**" if body["quick"] else ""
    words = (
        f"{body['made']}, commit {m['commit']}: Linux {m['kernel']}, {kind}, "
        f"{m['cpus']} CPUs ({m['processor']}), cgroup {m['cgroup']}, "
        f"Python {m['python']}, {m['mounts']} mounts, load {m['load'][0]:.2f}.{quick}"
    )
    return textwrap.fill(words, 120, break_on_hyphens=False) + "\n"


def _tail(row: dict[str, Any], who: str) -> float | None:
    found = row.get(who, {}).get("busy")
    return found["p99"] / found["p50"] if found else None


def _rung(name: str, row: dict[str, Any], floor: str) -> list[object]:
    cells: list[object] = [name]
    for mode in ("busy", "idle"):
        ours, bare = _ms(row, "product", mode), _ms(row, floor, mode)
        cells += [bare, ours, ours / bare if ours and bare else None]
        if mode == "busy":
            cells += [_tail(row, floor), _tail(row, "product")]
    return cells


def ladder(body: dict[str, Any]) -> str:
    """Floor and product, busy and idle, in milliseconds; a template beside a floor prepared alike as well."""
    rows: list[list[object]] = []
    for row in body["rows"]:
        rows.append(_rung(row["rung"], row, "floor"))
        if "prepared" in row:
            rows.append(_rung(f"{row['rung']}: a floor prepared alike", row, "prepared"))
    header = ("rung (ms)", "floor", "pyminicon", "ratio", "p99/p50: floor", "pyminicon")
    return _markdown((*header, "idle: floor", "pyminicon", "ratio"), rows)


def peers(body: dict[str, Any]) -> str:
    """Everyone's milliseconds, and how many times ours."""
    rows: list[list[object]] = []
    for row in body["rows"]:
        times = row.get("times_ours", {})
        cells: list[object] = [row["name"]]
        for mode in ("busy", "idle"):
            found = row.get(mode, {})
            cells += [found["p50"] / 1e3 if found else None]
            cells += [times.get(mode, {}).get(our) for our in ("pyminicon.run", "Template.run")]
        rows.append(cells)
    header = ("contestant", "p50 ms", "x run", "x Template", "idle p50 ms", "x run", "x Template")
    return _markdown(header, rows)


def flat(body: dict[str, Any]) -> str:
    """A small table for each thing that grows: p50 and the ratio to the smallest."""
    parts = []
    for kind in ("megabytes", "descriptors", "mounts", "containers"):
        if not body.get(kind):
            continue
        levels = list(body[kind][0]["levels"])
        rows = []
        for row in body[kind]:
            found, ratio = row["levels"], row["ratio"]
            rows.append([row["name"], *(f"{found[n]['p50'] / 1e3:.2f} ({ratio[n]:.2f})" for n in levels)])
        parts.append(_markdown((f"{kind}: ms (ratio)", *levels), rows))
    return "\n".join(parts)


def throughput(body: dict[str, Any]) -> str:
    """Launches per second and times the floor's."""
    every: list[list[str]] = [list(row["per_second"]) for row in body["rows"]]
    levels = max(every, key=len)
    rows = []
    for row in body["rows"]:
        cells = [row["name"]]
        for n in levels:
            value = row["per_second"].get(n)
            cells.append("" if value is None else f"{value:.0f} ({row['ratio'].get(n, 0):.2f})")
        rows.append(cells)
    return _markdown(("launches per second (times the floor)", *levels), rows)


def sustained(body: dict[str, Any]) -> str:
    """Cold and from a template, by the pause between two runs."""
    names = ("p50", "p90", "p99")
    rows = [
        [f"{r['name']}, {r['pause']}", r["runs"], *(r[name] / 1e3 for name in names)] for r in body["rows"]
    ]
    return _markdown(("between two runs", "runs", "p50 ms", "p90 ms", "p99 ms"), rows)


def density(body: dict[str, Any]) -> str:
    """What a sleeping container costs."""
    names = {
        "available_kib": "memory that is no longer available, KiB a container",
        "resident_kib": "resident memory of the payload, KiB",
        "processes_per_container": "processes a container",
        "extra_threads": "threads of ours, in all",
        "descriptors_per_container": "descriptors a container",
        "start_seconds": "seconds to start all",
        "stop_seconds": "seconds to end all",
    }
    rows = [[text, *(row[name] for row in body["rows"])] for name, text in names.items()]
    header = [f"{body['rows'][0]['number']} sleeping containers"]
    header += ["read_only" if row["options"] else "defaults" for row in body["rows"]]
    return _markdown(header, rows)


def cli(body: dict[str, Any]) -> str:
    """The command line under every interpreter that was tried."""
    parts = []
    for version, found in body["pythons"].items():
        rows = [[r["name"], r["busy"]["p50"] / 1e3, *r["ratio"].values()] for r in found["rows"]]
        header = (f"Python {version}", "p50 ms", "x `python -c pass`", "x `python -m` empty")
        parts.append(_markdown(header, rows))
    return "\n".join(parts)


def filters(body: dict[str, Any]) -> str:
    """What each program is long, and takes to make and to load."""
    rows = [[r["name"], r["instructions"], r["compile_ms"], r["load"]["p50"]] for r in body["rows"]]
    return _markdown(("program", "instructions", "to make: ms", "to load: us"), rows)


def network(body: dict[str, Any]) -> str:
    """What serving a network costs a start, and how fast its bytes are."""
    names = ("p50", "p99", "least")
    starts = [[r["name"], *(r[name] / 1e3 for name in names), r["more_ms"]] for r in body["rows"]]
    ways = [
        [r["name"], r["gib_per_second"], r["times_loopback"], r["processor_seconds_per_gib"]]
        for r in body["throughput"]
    ]
    tables = [
        _markdown(("start, until its end", "p50 ms", "p99 ms", "least ms", "more at p50, ms"), starts),
        _markdown(
            (f"{body['bytes'] >> 20} MiB out of a server", "GiB/s", "x loopback", "processor s/GiB"), ways
        ),
    ]
    notes = [f"{name} could not run: {why}.\n" for name, why in body["missing"].items()]
    if "congestion_control" in body:
        notes.insert(0, f"This machine's congestion control is {body['congestion_control']}.\n")
    return "\n".join([*tables, *notes])


def cluster(body: dict[str, Any]) -> str:
    """Each adapter and the plain processes beside it."""
    rows = [[r["name"], round(r["per_second"]), r["ratio"]] for r in body["rows"]]
    tables = [_markdown((f"{body['processes']} processes", "jobs per second", "ratio"), rows)]
    if body.get("killed"):
        names = ("gone_ms", "gone_ms_most", "cgroups_ms", "cgroups_ms_most")
        lost = [[r["name"], r["workers"], *(r[name] for name in names)] for r in body["killed"]]
        header = ("containers gone: ms", "at most", "cgroups removed: ms", "at most")
        tables.append(_markdown(("a worker killed by SIGKILL", "times", *header), lost))
    return "\n".join(tables)


def judge(body: dict[str, Any]) -> str:
    """How soon each server answers."""
    names = ("p50", "p90", "p99")
    rows = [
        [
            r["name"],
            r.get("turns", 1),
            *(r[name] / 1e3 for name in names),
            r["ratio"],
            round(r.get("judged", body["submissions"])),
            r["seconds"],
        ]
        for r in body["rows"]
    ]
    header = ("turns", "p50 ms", "p90 ms", "p99 ms", "ratio of p99", "judged", "in seconds")
    return _markdown((f"a ping, {body['submissions']} submissions at once", *header), rows)


def fixtures(body: dict[str, Any]) -> str:
    """What each fixture of pytest's plugin costs a test."""
    names = ("p50", "p90", "p99")
    rows = [[r["name"], *(r[name] / 1e3 for name in names), r["more_ms"]] for r in body["rows"]]
    return _markdown(("a test's fixture", "p50 ms", "p90 ms", "p99 ms", "more at p50, ms"), rows)


def samples(body: dict[str, Any]) -> str:
    """How soon a sample is ready, and gone."""
    rows = [
        [r["name"], *(r[mode][name] / 1e3 for mode in ("busy", "idle") for name in ("p50", "p99"))]
        for r in body["rows"]
    ]
    header = ("back to back: p50 ms", "p99 ms", "after 100 ms: p50 ms", "p99 ms")
    return _markdown((f"inspect_ai {body['inspect_ai']}", *header), rows)


def commands(body: dict[str, Any]) -> str:
    """A command in a container that lives: alone, by many threads, and of callers of several sizes."""
    titles = {
        "busy": "one after the other",
        "idle": "each after 100 ms of sleep",
        "beside": "in turns with others that take milliseconds",
    }
    turns = [
        _markdown(
            (title, "p50 us", "p99 us", "p99/p50", "x bare"),
            [[r["name"], r["p50"], r["p99"], r["p99"] / r["p50"], r["times_bare"]] for r in body[part]],
        )
        for part, title in titles.items()
    ]
    tables = [
        *turns,
        _markdown(("32 threads", "commands a second"), list(body["rates"].items())),
        _markdown(("c.run, by its caller", "p50 us"), list(body["flat"].items())),
        _markdown(("the end of 100 processes", "p50 ms"), list(body["ends"].items())),
        _markdown(("a container that waits", "KiB"), list(body["waiting"].items())),
    ]
    notes = [f"{name} could not run: {why}.\n" for name, why in body["missing"].items()]
    return "\n".join([*tables, *notes])


def commands_short(body: dict[str, Any]) -> str:
    """A command in a container that lives beside a bare process: medians, and how many times bare's."""
    parts = ("busy", "idle", "beside")
    by_name = {name: {row["name"]: row for row in body[name]} for name in parts}
    rows = []
    for name in by_name["beside"]:
        cells: list[object] = [name]
        for part in parts:
            row = by_name[part].get(name)
            cells += [row["p50"] / 1e3, row["times_bare"]] if row else [None, None]
        rows.append(cells)
    header = (
        "contestant",
        "p50 ms",
        "x bare",
        "after 100 ms of sleep",
        "x bare",
        "in turns with all",
        "x bare",
    )
    return _markdown(header, rows)


def mechanisms(body: dict[str, Any]) -> str:
    """How much more the whole takes without each mechanism, in each mode: p50, p99, processor time."""
    rows = [
        [row["mechanism"], row["case"]]
        + [
            " ".join(f"{row[mode]['gain'][what]:.2f}" for what in ("p50", "p99", "cpu"))
            for mode in ("idle", "busy", "loaded")
        ]
        for row in body["rows"]
    ]
    return _markdown(("without", "call", "idle: p50 p99 CPU", "back to back", "loaded"), rows)


def before(body: dict[str, Any]) -> str:
    """Another build and this one: how many times as long, and how much processor time."""
    what = ("p10", "p50", "p90", "p99", "cpu")

    def rows(part: list[dict[str, Any]]) -> list[list[object]]:
        return [
            [r["name"], r["before"]["p50"] / 1e3, r["now"]["p50"] / 1e3, *(r["ratio"][each] for each in what)]
            for r in part
        ]

    header = (f"p50 ms: {body['build']}", "now", "x p10", "x p50", "x p90", "x p99", "x CPU")
    tables = []
    for mode, title in (("busy", "back to back"), ("idle", "after 100 ms")):
        if "ladder" in body:
            tables.append(_markdown((title, *header), rows(body["ladder"][mode])))
    if "cli" in body:
        tables.append(_markdown(("command", *header), rows(body["cli"])))
    if "throughput" in body:
        rates = [[r["name"], round(r["before"]), round(r["now"]), r["ratio"]] for r in body["throughput"]]
        tables.append(
            _markdown(("at once", f"launches per second: {body['build']}", "now", "x time of one"), rates)
        )
    if "stages" in body:
        every = {row["stage"]: None for part in body["stages"].values() for row in part}
        told = {(name, r["stage"]): r for name, part in body["stages"].items() for r in part}
        lines = []
        for stage in every:
            here = [told.get((name, stage), {"before": 0.0, "now": 0.0}) for name in body["stages"]]
            # What takes next to nothing in either, and as long in both, is left out.
            if max(abs(r["now"] - r["before"]) for r in here) >= 3:
                lines.append([stage, *(f"{r['before']:.0f} {r['now']:.0f}" for r in here)])
        tables.append(_markdown(("stage, us: before and now", *body["stages"]), lines))
    notes = [f"{name} could not run: {why}.\n" for name, why in body.get("missing", {}).items()]
    return "\n".join([*tables, *notes])


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "ladder": ladder, "peers": peers, "flat": flat, "flat_user": flat, "throughput": throughput,
    "density": density, "sustained": sustained, "cli": cli, "filters": filters, "network": network, "mechanisms": mechanisms,
    "cluster": cluster, "judge": judge, "fixtures": fixtures, "samples": samples, "exec": commands,
    "before": before, "exec_short": commands_short,
}  # fmt: skip
#: Tables from another's file.
_FILES = {"exec_short": "exec"}


def filled(text: str, results: Path) -> str:
    """``text`` with every table whose file is there made anew."""

    def fill(match: re.Match[str]) -> str:
        path = results / f"{_FILES.get(match[2], match[2])}.json"
        if not path.exists():
            return match[0]
        body = json.loads(path.read_text())
        return f"{match[1]}{TABLES[match[2]](body)}\n{machine(body)}{match[3]}"

    return _BLOCK.sub(fill, text)


def fill_page(results: Path, page: Path = PAGE) -> Path:
    """Rewrite docs/performance.md, and the tables of the other pages, from the results."""
    for each in PAGES if page == PAGE else (page,):
        each.write_text(filled(each.read_text(), results))
    return page
