"""``filters``: what a system call filter costs to make and to load."""

from __future__ import annotations

import argparse
import ctypes
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyminicon import seccomp
from pyminicon.options import capabilities

from . import report
from .measure import Case, in_turns

_PODMANS = Path("/usr/share/containers/seccomp.json")
_ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _loading(program: bytes) -> Callable[[], int]:
    """Loads it in a forked child: a filter stays with whoever has it."""
    libc = ctypes.CDLL(None)
    described = _Program(len(program) // 8, program)

    def run() -> int:
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            begun = time.perf_counter_ns()
            failed = libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(described), 0, 0)
            took = time.perf_counter_ns() - begun
            os.write(writable, struct.pack("q", -1 if failed else took))
            os._exit(0)
        os.close(writable)
        (took,) = struct.unpack("q", os.read(readable, 8))
        os.close(readable)
        os.waitpid(child, 0)
        if took < 0:
            raise RuntimeError("the kernel takes no filter here")
        return int(took)

    return run


def _compiled(profile: str) -> tuple[bytes, float]:
    """A profile's program, and the seconds that it took to make."""
    content = seccomp.content_of(profile)
    begun = time.perf_counter()
    program, _ = seccomp._compile(content, capabilities.DEFAULT_MASK, True)
    return program, time.perf_counter() - begun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return what is to be saved."""
    profiles = {"the default": "default"}
    if _PODMANS.exists():
        profiles["the profile of Debian's containers-common"] = str(_PODMANS)
    made: dict[str, tuple[bytes, float | None]] = {"one that allows all": (_ALLOW_ALL, None)}
    for name, profile in profiles.items():
        _compiled(profile)  # the library and its modules are loaded
        made[name] = _compiled(profile)
    found = in_turns(
        [Case(name, _loading(program)) for name, (program, _) in made.items()],
        100 if options.quick else 1000,
        budget=30.0,
    )
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "instructions": len(program) // 8,
            "compile_ms": None if seconds is None else round(seconds * 1e3, 2),
            "load": found[name].as_dict(),
        }
        for name, (program, seconds) in made.items()
    ]
    cells = [[row["name"], row["instructions"], row["compile_ms"], row["load"]["p50"]] for row in rows]
    header = ("", "instructions", "compile ms", "load us")
    report.show(report.table("filters (p50 in microseconds)", header, cells))
    return {"unit": "us", "rows": rows, "missing": [] if _PODMANS.exists() else [str(_PODMANS)]}
