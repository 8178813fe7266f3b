"""Strangers' bytes into everything that reads them: an answer or an ImageError, never anything else."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
import tempfile
from typing import Any

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyminicon.images import challenge, config, credentials, lookup, manifest, reference
from pyminicon.images.docker_archive import _entries
from pyminicon.images.errors import ImageError
from pyminicon.images.limits import Budget, Limits
from pyminicon.images.tar_index import TarBlobs
from pyminicon.images.unpack import unpack

quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
slow = settings(quick, max_examples=60)

names = st.one_of(
    st.text(min_size=1, max_size=30),
    st.sampled_from(
        ["../x", "/abs", "a/../../b", ".wh.x", "d/.wh..wh..opq", ".", "", "a" * 300, "d/" * 300, ".wh..."]
    ),
)
kinds = st.sampled_from(
    [b"0", b"1", b"2", b"5", b"6", b"7", b"S", b"x", b"g", b"L", b"K", b"V", b"D", b"Z", b"\0"]
)
pax = st.dictionaries(
    st.sampled_from(["path", "linkpath", "size", "uid", "mtime", "GNU.sparse.map", "GNU.sparse.major",
                     "GNU.sparse.realsize", "GNU.sparse.offset", "SCHILY.xattr.user.a", "comment"]),
    st.one_of(st.text(max_size=20), st.integers(-5, 1 << 70).map(str), names),
    max_size=3,
)  # fmt: skip


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """A tar of odd members, then perhaps broken somewhere."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=draw(st.sampled_from([0, 1, 2])), errors="surrogateescape"
    ) as t:
        for _ in range(draw(st.integers(0, 6))):
            info = tarfile.TarInfo(draw(names))
            info.type, info.linkname = draw(kinds), draw(names)
            info.mode = draw(st.integers(0, 0o7777))
            info.uid = info.gid = 0
            info.pax_headers = draw(pax)
            data = draw(st.binary(max_size=600))
            info.size = len(data)
            try:
                t.addfile(info, io.BytesIO(data))
            except (ValueError, UnicodeError, IndexError):
                continue
    whole = bytearray(out.getvalue())
    for _ in range(draw(st.integers(0, 3))):
        whole[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
    return bytes(whole[: draw(st.integers(0, len(whole)))] if draw(st.booleans()) else whole)


@slow
@given(archives(), st.booleans())
def test_any_archive_is_unpacked_inside_or_refused(data: bytes, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.mkdir(f"{place}/root")
        try:
            unpack(iter([gzip.compress(data) if packed else data]), f"{place}/root", Budget(Limits()))
        except ImageError as error:
            assert "\n" not in str(error)
        assert os.listdir(place) == ["root"]
        os.chmod(f"{place}/root", 0o700)


@quick
@given(st.one_of(archives(), st.binary(max_size=3000)))
def test_any_archive_can_be_looked_into(data: bytes) -> None:
    try:
        blobs = TarBlobs(io.BytesIO(data))
        for name in ("manifest.json", "index.json", "x"):
            if name in blobs:
                assert len(blobs.whole(name, 1 << 20)) <= 1 << 20
    except ImageError:
        pass


@quick
@given(st.one_of(st.text(), st.from_regex(r"[a-z.:/@-]{1,40}")))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = reference.parse(text)
    except ImageError:
        return
    assert str(reference.parse(str(found))) == str(found)
    assert str(found).replace("/", "%") in lookup.ref_names(str(found))
    assert "/" not in lookup.ref_names(text)[0]


@quick
@given(st.one_of(st.text(), st.from_regex(r'[A-Z][a-z]+ ([a-z]+=("[^"]*"|[a-z]+),? ?)*')))
def test_any_header_is_challenges_or_refused(text: str) -> None:
    try:
        found = challenge.parse(text)
    except ImageError:
        return
    assert all(scheme == scheme.lower() for scheme, _ in found)


words = st.sampled_from(
    ["config", "rootfs", "diff_ids", "layers", "manifests", "digest", "size", "mediaType", "platform", "Cmd", "Env",
     "Entrypoint", "User", "Volumes", "auths", "auth", "os", "architecture", "annotations", "Config", "Layers",
     "RepoTags"]
)  # fmt: skip
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.just("sha256:" + "a" * 64),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=5)),
    max_leaves=25,
)


@settings(quick, max_examples=400)
@given(json_values)
def test_any_json_is_understood_or_refused(value: Any) -> None:
    data = json.dumps(value).encode()
    raw = value if isinstance(value, dict) else {}
    digest = "sha256:" + "a" * 64
    for read in (
        lambda: config.parse(data),
        lambda: manifest.parse_manifest(raw, digest),
        lambda: manifest.choose(manifest.parse_index(raw), None),
        lambda: credentials.from_config(data, "config.json", "x.io", "a/b"),
        lambda: _entries(b"[" + data + b"]"),
    ):
        with contextlib.suppress(ImageError):
            read()


@quick
@given(st.binary())
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        lookup.decode_record(data)
