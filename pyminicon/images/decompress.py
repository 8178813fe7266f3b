"""gzip, bzip2, xz and zstd streams, told by their first bytes and never by a name.

All work in steps of bounded size, so that a bomb is noticed while it is small, and all insist on
the end of the stream: what was cut off is an error, not a short archive.
"""

from __future__ import annotations

from .errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from .limits import Budget

    class Decompressor(Protocol):
        """What bz2, lzma and compression.zstd have in common."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


STEP = 1 << 20
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def kind(start: bytes) -> str:
    """``"gzip" "bzip2" "xz" "zstd"`` or ``""`` (not compressed), from the first bytes of a stream."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    # RFC 8878, 3.1.2: a skippable frame may come first (pzstd writes one).
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
        return "zstd"
    return ""


def decompressed(chunks: Iterator[bytes], budget: Budget) -> Iterator[bytes]:
    """The stream behind ``chunks``, decompressed where it is compressed.

    Raises ImageError when it is damaged, cut off, larger than ``budget`` allows, or zstd on a
    machine that can't read it.
    """
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= 6:
            break
    name = kind(start)
    source = _counted(start, chunks, budget)
    for data in source if not name else _decode(name, source):
        budget.add(len(data))
        yield data


def _counted(start: bytes, rest: Iterator[bytes], budget: Budget) -> Iterator[bytes]:
    budget.took(len(start))
    yield start
    for chunk in rest:
        budget.took(len(chunk))
        yield chunk


def _decode(name: str, source: Iterator[bytes]) -> Iterator[bytes]:
    make = _factory(name)
    errors = _errors(name)
    stream: Decompressor | None = None
    for chunk in source:
        data = chunk
        while data or (stream is not None and not stream.needs_input and not stream.eof):
            if stream is None:
                # A further stream may follow; zeros are padding (tape blocks, and xz's own).
                data = data.lstrip(b"\0")
                if not data:
                    break
                stream = make()
            try:
                out = stream.decompress(data, STEP)
            except errors as error:
                raise ImageError(f"the {name} stream is damaged: {error}") from None
            data = b""
            if out:
                yield out
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None:
        raise ImageError(f"the {name} stream ends early")


def _factory(name: str) -> Callable[[], Decompressor]:
    if name == "gzip":
        return _Gzip
    if name == "bzip2":
        import bz2

        return bz2.BZ2Decompressor
    if name == "xz":
        import lzma

        # The largest preset (-9) needs 65 MiB; a header may ask for 4 GiB.
        return lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=1 << 30)
    found: Callable[[], Decompressor] = _zstd().ZstdDecompressor
    return found


def _zstd() -> Any:
    """The module that reads zstd: Python's own from 3.14 on, else the package. Raises ImageError."""
    try:
        from compression import zstd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,import-untyped,no-redef,unused-ignore]
        except ImportError:
            raise ImageError(
                "zstd-compressed, which needs Python 3.14 or a package: pip install backports.zstd"
            ) from None
    return zstd


def _errors(name: str) -> tuple[type[Exception], ...]:
    import lzma
    import zlib

    found = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
    return (*found, _zstd().ZstdError) if name == "zstd" else found


class _Gzip:
    """zlib's object with the manners of the others."""

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        # An answer of full length may have left more inside, with all the input taken.
        return not self._zlib.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self._full = len(out) == max_length
        return out
