"""Builds the C++ floor and the payload on demand, into build/bench (a cache keyed by content)."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "build" / "bench"

FLOOR_COMMAND = ["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
# No libc, one segment: what is left of an exec is the kernel's part.
PAYLOAD_COMMAND = [
    "gcc", "-O2", "-static", "-nostdlib", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-n",
]  # fmt: skip


def _digest(command: list[str], sources: list[Path]) -> str:
    h = hashlib.sha256(" ".join(command).encode())
    for source in sources:
        h.update(source.read_bytes())
    return h.hexdigest()[:16]


def _built(command: list[str], main: Path, sources: list[Path], suffix: str) -> Path:
    target = CACHE / f"{main.stem}-{_digest(command, sources)}{suffix}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        subprocess.run([*command, "-o", str(fresh), str(main)], check=True)
        os.rename(fresh, target)  # whole or not at all, also when two build at once
    return target


def floor_library() -> Path:
    """The floor as a shared library with a C ABI."""
    folder = HERE / "floor"
    return _built(FLOOR_COMMAND, folder / "floor.cc", sorted(folder.glob("*.[hc]*")), ".so")


def payload() -> Path:
    """The static program that every contestant runs."""
    source = HERE / "floor" / "payload.c"
    return _built(PAYLOAD_COMMAND, source, [source], "")
