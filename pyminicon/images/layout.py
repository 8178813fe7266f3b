"""OCI image layouts, as directories and inside tar archives (OCI image specification, "Image Layout")."""

from __future__ import annotations

import errno
import hashlib
import os

from .. import _core
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


def checked(pieces: Iterator[bytes], digest: str, what: str) -> Iterator[bytes]:
    """``pieces``, followed by an ImageError when they weren't what ``digest`` says."""
    seen = hashlib.sha256()
    for piece in pieces:
        seen.update(piece)
        yield piece
    if f"sha256:{seen.hexdigest()}" != digest:
        raise ImageError(f"wrong digest: {what} is sha256:{seen.hexdigest()}, not {digest}")


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
            yield from checked(pieces(file), descriptor.digest, "a blob of the layout")

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
        yield from checked(found, descriptor.digest, "a blob of the archive")


def _blob(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.replace(':', '/')}"


def _whole(file: BinaryIO, what: str) -> bytes:
    data = b"".join(iter(lambda: file.read(_PIECE) if file.tell() <= SMALL else b"", b""))
    if len(data) > SMALL:
        raise ImageError(f"{what} is larger than {SMALL} bytes")
    return data
