"""The C++ floor through ctypes. ctypes releases the GIL, as pyminicon does."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence

from . import build
from .rootfs import PROGRAM

# The bits of enum FloorStep in floor/floor.h, in its order.
STEP_NAMES = (
    "hygiene", "mount", "pid", "uts", "ipc", "cgroup", "net", "loopback", "user_single", "user_ranges",
    "time", "private", "root_bind", "root_overlay", "proc", "masks", "sysfs", "dev", "devpts", "shm",
    "mqueue", "etc", "pivot", "hostname", "caps", "seccomp", "cgroup_v1", "cgroup_v2", "capture",
    "hold_mounts", "stock_net", "parked",
)  # fmt: skip
STEPS = {name: 1 << bit for bit, name in enumerate(STEP_NAMES)}
OTHER_STAMPS = {-1: "clone", 63: "close descriptors", 64: "exec"}


class FloorError(OSError):
    """A step of the floor failed: errno and the step's name."""


class _Job(ctypes.Structure):
    _fields_ = [
        ("steps", ctypes.c_uint64),
        ("rootfs", ctypes.c_char_p),
        ("program", ctypes.c_char_p),
        ("argv", ctypes.POINTER(ctypes.c_char_p)),
        ("filter", ctypes.c_char_p),
        ("id_map", ctypes.c_char_p),
        ("memory_limit", ctypes.c_uint64),
        ("filter_length", ctypes.c_uint32),
        ("netns", ctypes.c_int32),
        ("cgroup_parent", ctypes.c_int32),
        ("stamped", ctypes.c_int32),
        ("status", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("failed", ctypes.c_int32),
        ("stamp_count", ctypes.c_int32),
        ("begin", ctypes.c_uint64),
        ("spawned", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("captured", ctypes.c_uint64),
        ("stamps", ctypes.c_uint64 * 32),
        ("stamp_step", ctypes.c_int32 * 32),
    ]


_library: ctypes.CDLL | None = None


def _load() -> ctypes.CDLL:
    global _library
    if _library is None:
        _library = ctypes.CDLL(str(build.floor_library()))
        _library.floor_launch.argtypes = [ctypes.POINTER(_Job)]
        _library.floor_launch.restype = ctypes.c_int
        _library.floor_parked.argtypes = [ctypes.POINTER(_Job), ctypes.POINTER(ctypes.c_void_p)]
        _library.floor_parked.restype = ctypes.c_int
        _library.floor_discard.argtypes = [ctypes.POINTER(ctypes.c_void_p)]
        _library.floor_discard.restype = None
    return _library


class Floor:
    """One rung's launch: ``launch()`` runs it once and returns its nanoseconds by the floor's clock.

    steps: names out of STEP_NAMES. argv: after the program's name. filter: a seccomp program as
    bytes. netns, cgroup_parent: open descriptors (the caller's to close).
    """

    def __init__(
        self,
        rootfs: str | os.PathLike[str],
        steps: Iterable[str],
        argv: Sequence[str] = (),
        *,
        filter: bytes = b"",
        id_map: str = "0 0 65536",
        memory_limit: int = 64 << 20,
        netns: int = -1,
        cgroup_parent: int = -1,
        stamped: bool = False,
    ) -> None:
        names = set(steps)
        library = _load()
        self._launch, self._parked = library.floor_launch, library.floor_parked
        self._discard = library.floor_discard
        self._stock = ctypes.c_void_p() if "parked" in names else None
        self._root = os.fsencode(rootfs)
        inside = "pivot" in names
        program = PROGRAM.encode() if inside else self._root + PROGRAM.encode()
        arguments = [b"payload", *(a.encode() for a in argv), None]
        self._argv = (ctypes.c_char_p * len(arguments))(*arguments)
        self._job = _Job(
            steps=sum(STEPS[name] for name in names),
            rootfs=self._root,
            program=program,
            argv=self._argv,
            filter=filter,
            filter_length=len(filter) // 8,
            id_map=id_map.encode(),
            memory_limit=memory_limit,
            netns=netns,
            cgroup_parent=cgroup_parent,
            stamped=int(stamped),
        )

    def launch(self, expect: int = 0) -> int:
        """Run once; the wait status must be ``expect`` << 8. Returns nanoseconds."""
        job = self._job
        if self._stock is None:
            result = self._launch(ctypes.byref(job))
        else:
            result = self._parked(ctypes.byref(job), ctypes.byref(self._stock))
        if result:
            step = OTHER_STAMPS.get(job.failed) or (STEP_NAMES[job.failed] if job.failed >= 0 else "clone")
            raise FloorError(-result, os.strerror(-result), step)
        if job.status != expect << 8:
            raise FloorError(0, f"wait status {job.status:#x}, expected {expect << 8:#x}")
        return int(job.end - job.begin)

    def close(self) -> None:
        """End the child that waits in stock, if there is one."""
        if self._stock is not None:
            self._discard(ctypes.byref(self._stock))

    @property
    def captured(self) -> int:
        """Bytes that the last launch captured."""
        return int(self._job.captured)

    def timeline(self) -> list[tuple[str, int]]:
        """(step, nanoseconds) of the last launch, the way out included; needs ``stamped``."""
        job = self._job
        rows, last = [], int(job.begin)
        for i in range(job.stamp_count):
            bit = job.stamp_step[i]
            rows.append((OTHER_STAMPS.get(bit) or STEP_NAMES[bit], int(job.stamps[i]) - last))
            last = int(job.stamps[i])
        rows.append(("exec", int(job.spawned) - last))
        rows.append(("exit, undo and reap", int(job.end - job.spawned)))
        return rows
