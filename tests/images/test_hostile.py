"""Archives by somebody who means harm: refused or contained, and nothing half-unpacked remains.

Every test ends with a look at the store (the `store` fixture and `refused`): no work in progress, no
layer and no image of what was refused. The canary is a directory beside the store that must stay as
it was; the store's neighbour is what `..` leads to.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyminicon.errors import SpecError
from pyminicon.images import resolve
from pyminicon.images.store import Store

from .tars import Layout, Member, device, directory, file, global_header, hardlink, sha, symlink, tar

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def canary(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "canary"
    path.mkdir()
    (path / "secret").write_text("untouched")
    before = (path.stat().st_mtime_ns, (path / "secret").stat())
    yield path
    assert os.listdir(path) == ["secret"]
    assert (path / "secret").read_text() == "untouched"
    after = (path.stat().st_mtime_ns, (path / "secret").stat())
    assert (after[0], after[1].st_ctime_ns, after[1].st_nlink) == (before[0], before[1].st_ctime_ns, 1)


@pytest.fixture
def refused(store: Store, tmp_path: Path) -> Refused:
    """Resolve an archive that must be refused; the message. Also checks that nothing of it stays."""

    def do(data: bytes) -> str:
        path = tmp_path / "hostile.tar"
        path.write_bytes(data)
        with pytest.raises(SpecError) as caught:
            resolve(str(path)).close()
        for name in ("images", "layers", "tmp", "files", "refs"):
            assert os.listdir(f"{store.path}/{name}") == []
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return do


def test_the_same_way_in_works_for_an_honest_archive(store: Store, tmp_path: Path) -> None:
    (tmp_path / "good.tar").write_bytes(tar(file("a")))
    found = resolve(str(tmp_path / "good.tar"))
    assert Path(found.layers[0], "a").read_bytes() == b"x"
    found.close()


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "../../../../../../../../tmp/evil", "/../evil", ".."]
)
def test_dots_in_a_name_are_refused(refused: Refused, name: str) -> None:
    assert "'..'" in refused(tar(file("a/b"), file(name)))


def test_writing_through_an_absolute_link_is_refused(refused: Refused, canary: Path) -> None:
    assert "exit/evil" in refused(tar(symlink("exit", str(canary)), file("exit/evil")))
    refused(tar(symlink("exit", str(canary / "secret")), file("exit/x")))


def test_a_link_to_a_file_is_replaced_and_not_written_through(
    imported: Callable[[bytes], Path], canary: Path
) -> None:
    root = imported(tar(symlink("passwd", str(canary / "secret")), file("passwd", b"root::0:0")))
    assert not (root / "passwd").is_symlink()
    assert (root / "passwd").read_bytes() == b"root::0:0"


def test_writing_through_links_stays_inside(imported: Callable[[bytes], Path], canary: Path) -> None:
    """Links lead where they would lead in a container: the image's root is the root."""
    up = "/".join([".."] * 20)
    inside = str(canary).lstrip("/")
    root = imported(
        tar(
            directory(inside),
            symlink("absolute", str(canary)),
            file("absolute/secret", b"one"),
            symlink("relative", f"{up}/{inside}"),
            file("relative/two", b"two"),
            directory("a"),
            symlink("a/up", up),
            symlink("b", f"a/up/{inside}"),
            file("b/three", b"three"),
            directory("d"),
            symlink("d/e", ".."),
            symlink("d/e/f", ".."),
            file("d/e/f/four", b"four"),
            symlink("proc", "/proc/self/root"),
        )
    )
    assert sorted(os.listdir(root / inside)) == ["secret", "three", "two"]
    assert (root / inside / "secret").read_bytes() == b"one"
    assert (root / "four").read_bytes() == b"four"


def test_writing_through_links_that_lead_nowhere_is_refused(refused: Refused) -> None:
    refused(tar(symlink("x", "x"), file("x/evil")))
    refused(tar(symlink("x", "y"), symlink("y", "x"), file("x/evil")))
    refused(tar(symlink("x", "/proc/self/root/tmp"), file("x/evil")))
    refused(tar(file("x"), file("x/evil")))


def test_a_directory_over_a_link_replaces_the_link(imported: Callable[[bytes], Path], canary: Path) -> None:
    root = imported(tar(symlink("d", str(canary)), directory("d", mode=0o700), file("d/in")))
    assert not (root / "d").is_symlink()
    assert (root / "d/in").exists()


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../../../../etc/shadow", "etc/shadow"])
def test_a_hard_link_out_is_refused(refused: Refused, target: str) -> None:
    assert "shadow" in refused(tar(hardlink("mine", target)))


def test_a_hard_link_to_a_link_is_not_followed_out(imported: Callable[[bytes], Path], canary: Path) -> None:
    root = imported(tar(symlink("out", str(canary / "secret")), hardlink("mine", "out")))
    assert (root / "mine").is_symlink()  # the link was linked; the canary's st_nlink is checked at the end


def test_writing_into_a_hard_link_to_a_link_stays_inside(
    imported: Callable[[bytes], Path], canary: Path
) -> None:
    root = imported(
        tar(symlink("out", str(canary / "secret")), hardlink("mine", "out"), file("mine", b"owned"))
    )
    assert (root / "mine").read_bytes() == b"owned"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can make devices")
def test_a_device_over_a_file_is_a_device_in_the_layer_and_nowhere_else(
    imported: Callable[[bytes], Path],
) -> None:
    root = imported(tar(file("disk"), device("disk", 8, 0), file("null"), device("null")))
    assert stat.S_ISCHR((root / "disk").lstat().st_mode)
    # And a file over a device is written to the layer, not to the device.
    other = imported(tar(device("null"), file("null", b"data")))
    assert (other / "null").read_bytes() == b"data"


def test_a_whiteout_that_names_nothing_or_the_directory_itself_is_refused(refused: Refused) -> None:
    for name in (".wh.", ".wh..", ".wh..."):
        assert "whiteout" in refused(tar(directory("d"), file("d/a"), file(f"d/{name}", b"")))


def test_a_whiteout_that_is_no_file_is_refused(refused: Refused) -> None:
    assert "isn't a plain file" in refused(tar(directory(".wh.etc"), file(".wh.etc/x")))
    assert "isn't a plain file" in refused(tar(symlink(".wh.etc", "/etc")))


def test_a_whiteout_through_a_link_out_is_refused(refused: Refused, canary: Path) -> None:
    refused(tar(symlink("exit", str(canary)), file("exit/.wh.secret", b"")))
    refused(tar(symlink("exit", str(canary)), file("exit/.wh..wh..opq", b"")))


def test_an_opaque_mark_at_the_top_only_concerns_the_image(imported: Callable[[bytes], Path]) -> None:
    root = imported(tar(file(".wh..wh..opq", b""), file("a")))
    assert os.listdir(root) == ["a"]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_name_of_64_kib_is_refused(refused: Refused, format: int) -> None:
    assert "name" in refused(tar(file("a"), file("n" * 65536), format=format))
    refused(tar(file("a"), symlink("l", "t" * 65536), format=format))


def test_a_path_of_thousands_of_directories_is_refused(refused: Refused) -> None:
    assert "directories" in refused(tar(file("d/" * 1000 + "end")))


def test_a_gnu_long_name_that_claims_to_be_huge_is_refused(refused: Refused) -> None:
    header = Member("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    refused(header.tobuf(tarfile.GNU_FORMAT) + tar(file("a")))


def test_sizes_that_lie_are_refused(refused: Refused) -> None:
    header = Member("big")
    header.size = 1 << 50
    refused(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    # PAX says more than there is, the old header says less.
    refused(tar(file("a", b"x" * 512, pax_headers={"size": str(1 << 40)})))
    refused(tar(file("a", pax_headers={"size": "-5"}))[:2048])


def test_pax_records_that_lie_are_refused_or_harmless(store: Store, tmp_path: Path) -> None:
    for i, record in enumerate(
        (b"99999 path=../evil\n", b"5 x=\n", b"-3 path=a\n", b"30 path=evil", b"\0" * 40)
    ):
        header = Member("PaxHeader")
        header.type, header.size = tarfile.XHDTYPE, len(record)
        data = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + tar(file("honest"))
        (tmp_path / f"{i}.tar").write_bytes(data)
        try:
            found = resolve(str(tmp_path / f"{i}.tar"))
        except SpecError:
            continue
        assert os.listdir(found.layers[0]) == ["honest"]
        found.close()


def test_a_sparse_file_of_a_terabyte_takes_no_room(store: Store, tmp_path: Path) -> None:
    fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    data = tar(file("GNUSparseFile.0/huge", b"1\n0\n0\n".ljust(512, b"\0"), pax_headers=fields))
    (tmp_path / "sparse.tar").write_bytes(data)
    try:
        found = resolve(str(tmp_path / "sparse.tar"))
    except SpecError:
        return  # beyond the file system's or our own largest file
    for name in os.listdir(found.layers[0]):
        assert os.lstat(f"{found.layers[0]}/{name}").st_blocks < 1000
    found.close()


def test_zeros_that_unpack_to_gigabytes_are_a_bomb(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyminicon.images.limits.RATIO_FROM", 1 << 22)
    header = Member("zeros")
    header.size = 1 << 33
    start = header.tobuf(tarfile.GNU_FORMAT)
    for compressor in (_gzip(), bz2.BZ2Compressor(), lzma.LZMACompressor()):
        data = compressor.compress(start) + b"".join(compressor.compress(bytes(1 << 20)) for _ in range(32))
        data += compressor.flush()
        assert len(data) < 100_000
        assert "bomb" in refused(data)


def _gzip() -> object:
    import zlib

    return zlib.compressobj(wbits=31)


def test_more_bytes_than_allowed_are_refused(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMINICON_IMAGE_MAX_BYTES", "1M")
    assert "PYMINICON_IMAGE_MAX_BYTES" in refused(tar(file("big", os.urandom(1 << 20))))


def test_more_entries_than_allowed_are_refused(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMINICON_IMAGE_MAX_ENTRIES", "1000")
    members = [file(f"f{i}", b"") for i in range(5000)]
    assert "PYMINICON_IMAGE_MAX_ENTRIES" in refused(tar(*members))


def test_a_limit_that_is_no_number_is_an_error(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMINICON_IMAGE_MAX_BYTES", "plenty")
    (message,) = {str(e) for e in [_error(lambda: refused(tar(file("a"))))]}
    assert "plenty" in message


def _error(call: Callable[[], object]) -> Exception:
    try:
        return SpecError("image", str(call()))
    except FileNotFoundError as error:  # the store wasn't even made
        return SpecError("image", f"plenty {error}")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_truncated_archive_leaves_nothing_behind(refused: Refused, pack: Callable[[bytes], bytes]) -> None:
    data = pack(tar(file("a", os.urandom(20_000)), file("b", os.urandom(20_000))))
    for part in (0.2, 0.5, 0.8):
        refused(data[: int(len(data) * part)])
    if pack is not bytes:  # the plain one is filled up with zeros behind its end mark
        refused(data[:-10])


def test_an_archive_that_ends_between_two_members_is_truncated(refused: Refused) -> None:
    assert "ends early" in refused(tar(file("a"), file("b"))[: 2 * 1024])


def test_what_is_no_archive_is_refused(refused: Refused) -> None:
    for data in (
        b"",
        b"hello",
        b"\x1f\x8b",
        b"\x1f\x8b" + bytes(100),
        b"\x28\xb5\x2f\xfd garbage",
        bytes(10240),
    ):
        refused(data)
    refused(os.urandom(100_000))


def test_a_damaged_archive_is_refused(refused: Refused) -> None:
    data = bytearray(gzip.compress(tar(file("a", os.urandom(50_000)))))
    data[len(data) // 2] ^= 0xFF
    refused(bytes(data))


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "missing", "link to itself"])
def test_what_is_no_file_is_refused_without_hanging(store: Store, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link to itself":
        path.symlink_to(path)
    with pytest.raises(SpecError, match="image: "):
        resolve(str(path))
    assert not os.path.isdir(f"{store.path}/images") or os.listdir(f"{store.path}/images") == []


# -- layouts -----------------------------------------------------------------------------------


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def test_a_layer_with_a_wrong_digest_is_refused(store: Store, layout: Layout) -> None:
    good, evil = tar(file("a")), tar(file("evil"))
    entry = layout.image(good)
    (layout.path / "blobs/sha256" / sha(good)[7:]).write_bytes(evil)
    layout.index(entry)
    with pytest.raises(SpecError, match="wrong digest"):
        resolve(str(layout.path))
    assert os.listdir(f"{store.path}/layers") == []


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(store: Store, layout: Layout) -> None:
    """The blob's own digest is right; only the diff id shows the exchange (a poisoned store)."""
    layout.index(layout.image(tar(file("a")), packed=[tar(file("evil"))]))
    with pytest.raises(SpecError, match="wrong digest"):
        resolve(str(layout.path))
    assert os.listdir(f"{store.path}/layers") == []


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_manifest_or_configuration_with_a_wrong_digest_is_refused(
    store: Store, layout: Layout, which: str
) -> None:
    entry = layout.image(tar(file("a")))
    manifest = layout.path / "blobs/sha256" / entry["digest"][7:]
    import json

    victim = entry["digest"] if which == "manifest" else json.loads(manifest.read_text())["config"]["digest"]
    path = layout.path / "blobs/sha256" / victim[7:]
    path.write_bytes(path.read_bytes() + b" ")
    layout.index(entry)
    with pytest.raises(SpecError, match=r"wrong (digest|size)"):
        resolve(str(layout.path))


def test_an_index_that_points_to_itself_is_refused(store: Store, layout: Layout) -> None:
    """By its digest it can't; a file of that name can say so all the same."""
    own = sha(b"whatever")
    entry = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": own, "size": 10}
    data = layout.index(entry)
    layout.blob(data, own)
    with pytest.raises(SpecError, match=r"wrong (digest|size)"):
        resolve(str(layout.path))


def test_a_blob_that_is_a_link_or_a_fifo_is_refused(store: Store, layout: Layout, canary: Path) -> None:
    entry = layout.image(tar(file("a")))
    blob = layout.path / "blobs/sha256" / entry["digest"][7:]
    layout.index(entry)
    blob.unlink()
    blob.symlink_to(canary / "secret")
    with pytest.raises(SpecError):
        resolve(str(layout.path))
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(SpecError, match="isn't a plain file"):
        resolve(str(layout.path))


def test_a_huge_manifest_is_refused(store: Store, layout: Layout) -> None:
    with open(layout.path / "index.json", "wb") as out:
        out.truncate(1 << 30)
    with pytest.raises(SpecError, match="larger than"):
        resolve(str(layout.path))


@pytest.mark.parametrize(
    "digest", ["sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, 7, None]
)
def test_a_digest_that_is_none_is_refused(store: Store, layout: Layout, digest: object) -> None:
    entry = {**layout.image(tar(file("a"))), "digest": digest}
    layout.index(entry)
    with pytest.raises(SpecError, match="digest"):
        resolve(str(layout.path))


def test_a_docker_archive_whose_names_lead_out_is_refused(refused: Refused, canary: Path) -> None:
    for config in (f"{canary}/secret", "../canary/secret", "repositories"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            data = b'[{"Config": "%s", "RepoTags": ["x:1"], "Layers": ["a.tar"]}]' % config.encode()
            link = Member("repositories")
            link.type, link.linkname = tarfile.SYMTYPE, str(canary / "secret")
            info = Member("manifest.json")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            archive.addfile(link)
        refused(out.getvalue())


def test_deeply_nested_json_is_refused(store: Store, layout: Layout) -> None:
    (layout.path / "index.json").write_bytes(b'{"manifests":' + b"[" * 200_000)
    with pytest.raises(SpecError, match="JSON"):
        resolve(str(layout.path))


def test_global_headers_beyond_all_bounds_are_refused_in_time(refused: Refused) -> None:
    """Every member that follows would be given all of them."""
    headers = b"".join(global_header(**{f"SCHILY__xattr__user__a{n}": "v" * 1_000_000}) for n in range(100))
    many = global_header(**{f"SCHILY__xattr__user__a{n}": "v" for n in range(1001)})
    empty = tar(*(file(f"f{n}", b"") for n in range(5000)))
    begun = time.monotonic()
    assert "global headers of more than 1 MiB or 1000 records" in refused(gzip.compress(headers + empty, 1))
    assert "global headers of more than 1 MiB or 1000 records" in refused(many + empty)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    "data", [b"root:x:0:0:root:/root:/bin/sh\n" * 40, b"a short text\n", os.urandom(2000)]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_is_no_tar_is_told_so(
    refused: Refused, data: bytes, pack: Callable[[bytes], bytes]
) -> None:
    assert "not a tar archive" in refused(pack(data))
