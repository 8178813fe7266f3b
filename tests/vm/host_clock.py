"""How fast this machine's time stamp counter runs, for an emulated machine that reads the same one.

A kernel finds out at boot by counting over some milliseconds. On a busy host the emulator is put aside just then, and
the machine's clock runs several times too fast from there on: every timeout in it comes early.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import time
from collections.abc import Callable

# rdtsc; shl rdx, 32; or rax, rdx; ret
_RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")


def tsc_khz(seconds: float = 0.2) -> int | None:
    """Thousands of ticks a second; None on another processor than x86-64."""
    if platform.machine() != "x86_64":
        return None
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(_RDTSC)
        start = ctypes.c_char.from_buffer(page)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))
        first = _both(read)
        time.sleep(seconds)
        second = _both(read)
        del start, read  # the page can't be closed while something points into it
    return round((second[1] - first[1]) * 1_000_000 / (second[0] - first[0]))


def _both(read: Callable[[], int]) -> tuple[int, int]:
    """(nanoseconds, ticks) of one moment: of many pairs the one that took the shortest."""
    pairs = []
    for _ in range(200):
        before = time.monotonic_ns()
        ticks = read()
        after = time.monotonic_ns()
        pairs.append((after - before, (before + after) // 2, ticks))
    return min(pairs)[1:]
