"""Compressed streams: in pieces of any size, one after another, with padding, cut off and damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from pyminicon.images import decompress
from pyminicon.images.errors import ImageError
from pyminicon.images.limits import Budget, Limits

DATA = os.urandom(100_000) + bytes(3 << 20) + b"the end"


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-cq"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _zstd,
}


@pytest.fixture(params=PACKERS)
def pack(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    if request.param == "zstd" and shutil.which("zstd") is None:
        pytest.skip("needs the program zstd (apt-get install zstd)")
    return PACKERS[request.param]


def unpacked(data: bytes, size: int = 1 << 16, **limits: int) -> bytes:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(decompress.decompressed(pieces, Budget(Limits(**limits))))


def test_the_kind_is_told_by_the_first_bytes(pack: Callable[[bytes], bytes]) -> None:
    assert PACKERS[decompress.kind(pack(DATA)[:6])] is pack
    assert decompress.kind(b"\x5a\x2a\x4d\x18") == "zstd"  # a skippable frame
    for data in (b"", b"\x1f", b"ustar", b"BZ", bytes(10)):
        assert decompress.kind(data) == ""


@pytest.mark.parametrize("size", [1000, 1 << 16, 1 << 22])
def test_pieces_of_any_size_give_the_same(pack: Callable[[bytes], bytes], size: int) -> None:
    assert unpacked(pack(DATA), size) == DATA


def test_pieces_of_one_byte_give_the_same(pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(pack(DATA[:3000]), 1) == DATA[:3000]


def test_streams_one_after_another_are_one(pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(pack(DATA[:100]) + pack(b"") + pack(DATA[100:])) == DATA


def test_a_stream_that_is_cut_off_is_an_error(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(DATA)
    for size in (7, len(packed) // 2, len(packed) - 1):
        with pytest.raises(ImageError, match=r"ends early|damaged"):
            unpacked(packed[:size])


def test_what_follows_a_stream_must_be_one_or_zeros(pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ImageError):
        unpacked(pack(DATA) + b"junk")
    assert unpacked(pack(DATA) + bytes(1000)) == DATA


def test_a_damaged_stream_is_an_error(pack: Callable[[bytes], bytes]) -> None:
    packed = bytearray(pack(DATA))
    packed[40_000] ^= 0xFF
    if pack is _zstd:
        packed[4:8] = b"\xff\xff\xff\xff"  # its checksum is off when it writes to a pipe
    with pytest.raises(ImageError, match="damaged"):
        unpacked(bytes(packed))


def test_a_bomb_is_noticed_while_it_is_small(
    pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyminicon.images.limits.RATIO_FROM", 1 << 20)
    with pytest.raises(ImageError, match="bomb"):
        unpacked(pack(bytes(64 << 20)))
    with pytest.raises(ImageError, match="PYMINICON_IMAGE_MAX_BYTES"):
        unpacked(pack(DATA), bytes=1 << 20)


def test_zstd_without_a_reader_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression", "backports", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImageError, match=r"Python 3\.14 or a package: pip install backports\.zstd"):
        unpacked(b"\x28\xb5\x2f\xfd" + bytes(100))
    assert unpacked(gzip.compress(DATA)) == DATA
