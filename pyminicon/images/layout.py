"""OCI image layouts, as directories and inside tar archives (OCI image specification, "Image Layout")."""

from __future__ import annotations

import errno
import hashlib
import os

from .. import _core
from .config import algorithm_of
from .errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from .manifest import Descriptor
    from .tar_index import TarBlobs

_PIECE = 1 << 18
#: What a manifest or configuration may have (OCI distribution specification, "Pushing Manifests").
SMALL = 4 << 20


def checked(pieces: Iterator[bytes], descriptor: Descriptor, what: str) -> Iterator[bytes]:
    """``pieces``, and an ImageError when they aren't what ``descriptor`` says: more, fewer or others."""
    algorithm = algorithm_of(descriptor.digest)
    seen, size = hashlib.new(algorithm), 0
    for piece in pieces:
        seen.update(piece)
        size += len(piece)
        if size > descriptor.size:
            raise ImageError(f"wrong size: {what} has more than the {descriptor.size} bytes announced")
        yield piece
    if size != descriptor.size:
        raise ImageError(f"wrong size: {what} has {size} bytes, not the {descriptor.size} announced")
    if f"{algorithm}:{seen.hexdigest()}" != descriptor.digest:
        raise ImageError(f"wrong digest: {what} is {algorithm}:{seen.hexdigest()}, not {descriptor.digest}")


def pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


class DirectoryLayout:
    """A layout in a directory. Its files may be links to anything: only plain files are read."""

    def __init__(self, path: str) -> None:
        self._path = path

    def index(self) -> bytes:
        with self._open("index.json") as file:
            return _whole(file, "index.json")

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self.small(descriptor)

    def small(self, descriptor: Descriptor) -> bytes:
        with self._open(_blob(descriptor)) as file:
            return _whole(file, descriptor.digest)

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        with self._open(_blob(descriptor)) as file:
            yield from checked(pieces(file), descriptor, "a blob of the layout")

    def _open(self, name: str) -> BinaryIO:
        path = f"{self._path}/{name}"
        try:
            fd = _core.open_plain(path, False)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EISDIR, errno.ELOOP):
                raise ImageError(f"{path} isn't a plain file") from None
            raise ImageError(f"{path}: {error.strerror}") from None
        return os.fdopen(fd, "rb", buffering=0)


class TarLayout:
    """A layout inside a tar archive; nothing of it is written anywhere but its layers."""

    def __init__(self, archive: TarBlobs) -> None:
        self._archive = archive

    def index(self) -> bytes:
        return self._archive.whole("index.json", SMALL)

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self.small(descriptor)

    def small(self, descriptor: Descriptor) -> bytes:
        return self._archive.whole(_blob(descriptor), SMALL)

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        found = self._archive.pieces(_blob(descriptor))
        yield from checked(found, descriptor, "a blob of the archive")


def _blob(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.replace(':', '/')}"


def _whole(file: BinaryIO, what: str) -> bytes:
    data = b"".join(iter(lambda: file.read(_PIECE) if file.tell() <= SMALL else b"", b""))
    if len(data) > SMALL:
        raise ImageError(f"{what} is larger than {SMALL} bytes")
    return data
