"""How much of a stranger's archive is too much."""

from __future__ import annotations

import os
from _thread import allocate_lock

from .. import sizes
from .errors import ImageError

#: Below this many bytes no ratio is a bomb: a small file of zeros packs just as well.
RATIO_FROM = 1 << 30


class Limits:
    """What one image may hold, all its layers together. Every one can be raised by its environment variable.

    ``bytes`` (int, 64 GiB, PYMINICON_IMAGE_MAX_BYTES): of the tar streams once decompressed.
    ``entries`` (int, 2,000,000, PYMINICON_IMAGE_MAX_ENTRIES): members of the archives.
    ``ratio`` (int, 200, PYMINICON_IMAGE_MAX_RATIO): how many times larger than the compressed
    streams the tar streams may be, looked at from the first ``ratio_from`` bytes (1 GiB) on.
    ``depth`` (int, 256) and ``name`` (int, 4096): components and bytes of a member's name.
    """

    __slots__ = ("bytes", "depth", "entries", "name", "ratio", "ratio_from")

    def __init__(self, **given: int) -> None:
        self.bytes: int = _from_environment("BYTES", 64 << 30)
        self.entries: int = _from_environment("ENTRIES", 2_000_000)
        self.ratio: int = _from_environment("RATIO", 200)
        self.ratio_from: int = RATIO_FROM
        self.depth: int = 256
        self.name: int = 4096
        for name, value in given.items():
            setattr(self, name, value)


def _from_environment(name: str, default: int) -> int:
    variable = f"PYMINICON_IMAGE_MAX_{name}"
    text = os.environ.get(variable, "")
    return number(text, variable) if text else default


def number(text: str, what: str) -> int:
    """A count or size. Raises ImageError naming ``what``."""
    value = sizes.parse(text)
    if not value:
        raise ImageError(f"{what} takes a number or a size like 64G, not {text!r}")
    return value


class Budget:
    """What all layers of an image together may come to: many that are allowed make one that is too much. Safe in
    any thread."""

    __slots__ = ("_lock", "entries", "limits", "packed", "unpacked")

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self.packed: int = 0
        self.unpacked: int = 0
        self.entries: int = 0
        self._lock = allocate_lock()

    def took(self, packed: int) -> None:
        """So many bytes of a compressed stream were read."""
        with self._lock:
            self.packed += packed

    def add(self, unpacked: int) -> None:
        """Raises ImageError once there is more than there may be."""
        with self._lock:
            self.unpacked += unpacked
        self.insist(self.unpacked)
        limits = self.limits
        if self.unpacked > limits.ratio_from and self.unpacked > limits.ratio * max(self.packed, 1):
            raise ImageError(
                f"a decompression bomb: {self.packed} bytes unpack to more than {self.unpacked}; "
                f"PYMINICON_IMAGE_MAX_RATIO (now {limits.ratio}) raises the limit"
            )

    def insist(self, unpacked: int) -> None:
        """Raises ImageError for an image of more bytes than it may have."""
        if unpacked > self.limits.bytes:
            raise ImageError(
                f"the archive unpacks to more than {self.limits.bytes} bytes; "
                "PYMINICON_IMAGE_MAX_BYTES raises the limit"
            )

    def add_entries(self, entries: int) -> None:
        """Raises ImageError for more members than an image may have."""
        with self._lock:
            self.entries += entries
        if self.entries > self.limits.entries:
            raise ImageError(
                f"more than {self.limits.entries} entries; PYMINICON_IMAGE_MAX_ENTRIES raises the limit"
            )
