"""Tables on the terminal and JSON files with the machine's description."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def _first_line(command: Sequence[str]) -> str | None:
    try:
        out = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return None
    return out.splitlines()[0].strip() if out.strip() else None


def _field(path: str, key: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)


def commit() -> str | None:
    """What is checked out."""
    return _first_line(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"])


def machine() -> dict[str, Any]:
    """What one has to know to read the figures: kernel, processor, versions, load at the start."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    flags = (_field("/proc/cpuinfo", "flags") or "").split()
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in flags,
        "memory_kib": int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]),
        "python": platform.python_version(),
        "mounts": len(mounts),
        "cgroup": "v1" if any(" - cgroup " in line for line in mounts) else "v2",
        "load": list(os.getloadavg()),
        "uid": os.getuid(),
        "commit": commit(),
        "compiler": _first_line(["g++", "--version"]),
        "peers": {
            "unshare": _first_line(["unshare", "--version"]),
            "bwrap": _first_line(["bwrap", "--version"]),
            "crun": _first_line(["crun", "--version"]),
            "runc": _first_line(["runc", "--version"]),
        },
    }


def save(name: str, body: Mapping[str, Any], *, quick: bool, folder: Path | None = None) -> Path:
    """Write results/NAME.json (NAME.quick.json for a short run: not for quoting)."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{name}.quick.json" if quick else f"{name}.json")
    whole = {
        "benchmark": name,
        "quick": quick,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        **body,
    }
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(whole, indent=1) + "\n")
    os.rename(fresh, path)
    return path


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain table: the first column to the left, figures to the right, None as a dash."""
    cells = [[_cell(value) for value in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [title]
    for row in cells:
        first, rest = row[0].ljust(widths[0]), zip(row[1:], widths[1:], strict=True)
        lines.append("  " + "  ".join([first, *(text.rjust(width) for text, width in rest)]).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}"
    return str(value)


def show(text: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
