"""One layer: a tar stream in, a tree for overlayfs out.

The extractor is ours, in C++ (csrc/archive; docs/images.md says why not tar, tarfile or libarchive): every
name is resolved by the kernel with the layer as its root. Here the stream is decompressed, counted and
hashed on its way there.
"""

from __future__ import annotations

import hashlib
import os

from .._core import Extractor
from . import decompress
from .errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .limits import Budget

_LEFT_OUT = (
    "{} device nodes left out: only root may make them",
    "{} files belong to this user: their owners don't exist in this user namespace",
    "{} extended attributes left out: this user or file system can't keep them",
)


class Unpacked:
    """``diff_id`` (str, the digest of the tar stream), ``size`` (int, its bytes), ``entries``
    (int), ``notes`` (list[str]): what could not be kept, for people. ``complete`` (bool): whether
    the stream ended as an archive's must; only a digest can vouch for one that doesn't. ``has_root``
    (bool): whether the root directory's own mode and owner are the archive's."""

    __slots__ = ("complete", "diff_id", "entries", "has_root", "notes", "size")

    def __init__(self, diff_id: str, size: int, extractor: Extractor) -> None:
        self.diff_id: str = diff_id
        self.size: int = size
        self.entries: int = extractor.entries
        self.complete: bool = extractor.complete
        self.has_root: bool = extractor.has_root
        self.notes: list[str] = [
            text.format(count) for text, count in zip(_LEFT_OUT, extractor.left_out, strict=True) if count
        ]


def unpack(
    chunks: Iterator[bytes],
    target: str,
    budget: Budget,
    check: Callable[[], None] | None = None,
    algorithm: str = "sha256",
) -> Unpacked:
    """Unpack the (possibly compressed) tar stream ``chunks`` into the empty directory ``target``.

    ``check`` is called for every piece; what it raises ends the work. Raises ImageError for an archive that
    is damaged, cut off, hostile or beyond ``budget``; the caller then removes ``target``. ``algorithm``: of the
    diff id.
    """
    limits = budget.limits
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        extractor = Extractor(
            root,
            own=os.geteuid() == 0,
            max_depth=limits.depth,
            max_name=limits.name,
            max_entries=limits.entries,
        )
        # Hashing in a thread of its own was tried: the hand-overs cost what it saves.
        digest, size = hashlib.new(algorithm), 0
        for piece in decompress.decompressed(chunks, budget):
            if check is not None:
                check()
            digest.update(piece)
            size += len(piece)
            _insist(extractor.feed(piece))
        _insist(extractor.finish())
        budget.add_entries(extractor.entries)
        return Unpacked(f"{algorithm}:{digest.hexdigest()}", size, extractor)
    finally:
        os.close(root)


def _insist(trouble: bytes | None) -> None:
    if trouble is None:
        return
    text = trouble.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    raise ImageError(
        f"the archive can't be unpacked: {text if len(text) < 400 else text[:200] + ' … ' + text[-200:]}"
    )
