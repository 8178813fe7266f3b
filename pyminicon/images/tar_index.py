"""A tar archive as a set of named blobs: for image archives, whose members are read and never unpacked.

Not tarfile, which reads whatever size a header claims into memory. Only what image archives have is
understood: plain files, links among them, PAX and GNU long names.
"""

from __future__ import annotations

import posixpath
import tarfile

from .errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_BLOCK = 512
_META = (b"x", b"g", b"L", b"K")
_LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE)
_LARGEST_META = 1 << 20
_MOST_MEMBERS = 100_000
_PIECE = 1 << 18


class Member:
    """``name`` (str, normalised), ``offset`` and ``size`` (int) of its data, ``link`` (str, what it is
    a link to, normalised, or empty), ``is_file`` (bool): a plain one."""

    __slots__ = ("is_file", "link", "name", "offset", "size")

    def __init__(self, name: str, offset: int, size: int, link: str = "", is_file: bool = True) -> None:
        self.is_file: bool = is_file
        self.name: str = name
        self.offset: int = offset
        self.size: int = size
        self.link: str = link


def members(file: BinaryIO, limit: int | None = None) -> Iterator[Member]:
    """The members of an uncompressed archive in ``file``, in order, up to its end mark.

    ``limit``: don't look beyond so many bytes; stop there. Raises ImageError for a damaged archive.
    """
    offset, count = 0, 0
    meta: dict[str, str] = {}
    while limit is None or offset + _BLOCK <= limit:
        file.seek(offset)
        block = file.read(_BLOCK)
        if not block.strip(b"\0"):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ImageError(f"the archive can't be read: {error}") from None
        count += 1
        if count > _MOST_MEMBERS or info.size < 0:
            raise ImageError("the archive has too many members for an image, or one of no size")
        if info.type in _META:
            if info.size > _LARGEST_META:
                raise ImageError("the archive can't be read: an extended header or name beyond all bounds")
            meta |= _meta(info.type, file.read(info.size)) if info.type != b"g" else {}
            size = info.size
        else:
            size = _number(meta.get("size"), info.size) if info.isreg() else 0
            yield _member(info, meta, offset + _BLOCK, size)
            meta = {}
        offset += _BLOCK + (size + _BLOCK - 1) // _BLOCK * _BLOCK


def _member(info: tarfile.TarInfo, meta: dict[str, str], offset: int, size: int) -> Member:
    name = posixpath.normpath(meta.get("path", info.name))
    link = meta.get("linkpath", info.linkname) if info.type in _LINKS else ""
    if info.type == tarfile.SYMTYPE:
        link = posixpath.join(posixpath.dirname(name), link)
    link = posixpath.normpath(link) if link else ""
    return Member(name, offset, size if info.isreg() else 0, link, info.isreg())


def _meta(kind: bytes, data: bytes) -> dict[str, str]:
    text = data.decode("utf-8", "surrogateescape")
    if kind in (b"L", b"K"):
        return {"path" if kind == b"L" else "linkpath": text.split("\0")[0]}
    found = {}
    while text and text[0] != "\0":
        length, space, _ = text.partition(" ")
        # Lengths are in bytes; names of image archives are ASCII.
        end = _number(length, 0)
        if not space or end <= len(length) + 1:
            raise ImageError("the archive can't be read: a damaged PAX header")
        key, _, value = text[len(length) + 1 : end].rstrip("\n").partition("=")
        found[key] = value
        text = text[end:]
    return {key: value for key, value in found.items() if key in ("path", "linkpath", "size")}


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ImageError(f"the archive can't be read: {text[:40]!r} isn't a size")
    return int(text)


class TarBlobs:
    """The plain files of an archive by name. Raises ImageError like :func:`members`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._members = {member.name: member for member in members(file)}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a file, in pieces; links within the archive are followed (old versions of
        `docker save` make one of a layer that is there twice)."""
        wanted = posixpath.normpath(name)
        for _ in range(10):
            member = self._members.get(wanted)
            if member is None:
                break
            if not member.link:
                yield from self._read(member)
                return
            wanted = member.link
        raise ImageError(f"the archive lacks {name[:200]!r}, which its manifest names")

    def whole(self, name: str, most: int) -> bytes:
        """The content of a file that may have ``most`` bytes."""
        data = bytearray()
        for piece in self.pieces(name):
            data += piece
            if len(data) > most:
                raise ImageError(f"{name[:200]!r} is larger than {most} bytes")
        return bytes(data)

    def _read(self, member: Member) -> Iterator[bytes]:
        at, left = member.offset, member.size
        while left:
            self._file.seek(at)
            piece = self._file.read(min(left, _PIECE))
            if not piece:
                raise ImageError("the archive ends early")
            yield piece
            at += len(piece)
            left -= len(piece)
