"""What an honest archive holds arrives whole."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pyminicon.images import unpack as unpack_module
from pyminicon.images.limits import Budget, Limits
from pyminicon.images.store import Store

from .tars import device, directory, file, global_header, hardlink, symlink, tar

Import = Callable[..., Path]
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: only root can give files away or make devices"
)


def test_files_links_modes_and_times_are_kept(imported: Import) -> None:
    root = imported(
        tar(
            directory("./", mode=0o751),
            directory("bin", mode=0o1777),
            file("bin/su", b"program", mode=0o4755),
            file("bin/wall", b"", mode=0o2755, mtime=1234567890),
            hardlink("bin/su2", "bin/su"),
            symlink("lib", "usr/lib"),
            symlink("run", "/var/run"),
            symlink("up", "../../outside"),
            directory("locked", mode=0o500, mtime=1111111111),
            file("locked/file", b"in a directory that was read-only first"),
        )
    )
    assert stat.S_IMODE(root.stat().st_mode) == 0o751
    assert stat.S_IMODE((root / "bin").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "bin/su").stat().st_mode) == 0o4755
    assert stat.S_IMODE((root / "bin/wall").stat().st_mode) == 0o2755
    assert (root / "bin/wall").stat().st_mtime == 1234567890
    assert (root / "bin/su2").stat().st_ino == (root / "bin/su").stat().st_ino
    assert os.readlink(root / "lib") == "usr/lib"
    assert os.readlink(root / "run") == "/var/run"
    assert os.readlink(root / "up") == "../../outside"
    assert stat.S_IMODE((root / "locked").stat().st_mode) == 0o500
    assert (root / "locked").stat().st_mtime == 1111111111


@as_root
def test_owners_and_devices_are_kept_for_root(imported: Import) -> None:
    root = imported(tar(file("mine", uid=1234, gid=2345, uname="root", gname="root"), device("null")))
    status = (root / "mine").stat()
    assert (status.st_uid, status.st_gid) == (1234, 2345)  # by number: names are this machine's
    status = (root / "null").stat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == os.makedev(1, 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="needs an ordinary user")
def test_devices_are_left_out_and_noted_without_root(imported: Import, store: Store) -> None:
    root = imported(tar(device("null"), device("sda", 8, 0), file("a", uid=1234, gid=5)))
    assert os.listdir(root) == ["a"]
    assert (root / "a").stat().st_uid == os.geteuid()
    (digest,) = store.digests()
    assert store.about(digest)["notes"] == ["2 device nodes left out: only root may make them"]


@pytest.mark.usefixtures("user_attributes")
def test_extended_attributes_are_kept_but_for_overlays_own(imported: Import) -> None:
    root = imported(
        tar(
            file(
                "tagged",
                pax_headers={
                    "SCHILY.xattr.user.colour": "blue",
                    "SCHILY.xattr.user.overlay.redirect": "/elsewhere",
                    "SCHILY.xattr.trusted.overlay.metacopy": "",
                    "SCHILY.xattr.security.selinux": "label",
                },
            )
        )
    )
    assert os.listxattr(root / "tagged") == ["user.colour"]
    assert os.getxattr(root / "tagged", "user.colour") == b"blue"


@as_root
def test_file_capabilities_and_acls_are_kept(imported: Import) -> None:
    capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # VFS_CAP_REVISION_2, cap_net_raw+ep
    entries = [(1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 4, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    root = imported(
        tar(
            file("ping", pax_headers={"SCHILY.xattr.security.capability": _text(capability)}),
            file("shared", pax_headers={"SCHILY.xattr.system.posix_acl_access": _text(acl)}),
        )
    )
    assert os.getxattr(root / "ping", "security.capability") == capability
    assert os.getxattr(root / "shared", "system.posix_acl_access") == acl


@as_root
def test_a_default_acl_is_the_directorys_and_not_that_of_what_the_archive_puts_into_it(
    imported: Import,
) -> None:
    entries = [(1, 7, -1), (2, 7, 1000), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    with_acl = {"SCHILY.xattr.system.posix_acl_default": _text(acl)}
    root = imported(
        tar(
            directory("d", mode=0o750, pax_headers=with_acl),
            file("d/f", mode=0o640),
            directory("d/e", mode=0o700),
            file("d/e/f"),
            symlink("d/l", "f"),
        )
    )
    assert os.getxattr(root / "d", "system.posix_acl_default") == acl
    for name in ("d/f", "d/e", "d/e/f"):
        assert os.listxattr(root / name) == []
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o640
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0o700
    assert (root / "d").stat().st_mtime == 1_000_000_000


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_long_names_are_kept(imported: Import, format: int) -> None:
    long = "/".join(["d" * 200] * 5)
    root = imported(
        tar(file(f"{long}/file"), symlink("link", long), hardlink("hard", f"{long}/file"), format=format)
    )
    assert (root / long / "file").read_bytes() == b"x"
    assert os.readlink(root / "link") == long
    assert (root / "hard").stat().st_nlink == 2


def test_names_that_are_not_utf8_or_hold_newlines_are_kept(imported: Import) -> None:
    root = imported(tar(file("a\udcff\nb"), file("tab\tquote'\"\\"), format=tarfile.GNU_FORMAT))
    assert sorted(os.listdir(os.fsencode(root))) == [b"a\xff\nb", b"tab\tquote'\"\\"]


def test_sparse_files_stay_sparse(imported: Import, tmp_path: Path) -> None:
    holey = tmp_path / "in/holey"
    holey.parent.mkdir()
    with open(holey, "wb") as out:
        out.truncate(1 << 26)
        out.seek(1 << 25)
        out.write(b"island")
    for kind in ("gnu", "posix"):
        made = subprocess.run(
            ["tar", "-c", "--sparse", f"--format={kind}", "-C", str(holey.parent), "holey"],
            check=True,
            capture_output=True,
        ).stdout
        assert len(made) < 1 << 20
        found = imported(made, f"{kind}.tar") / "holey"
        assert found.read_bytes() == holey.read_bytes()
        assert found.stat().st_blocks * 512 < 1 << 20


def _zstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("needs the program zstd to make a zstd archive")
    return subprocess.run(["zstd", "-cq"], input=data, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, _zstd], ids=["tar", "gz", "bz2", "xz", "zst"]
)
def test_every_compression_is_told_by_its_content(imported: Import, pack: Callable[[bytes], bytes]) -> None:
    data = tar(file("big", os.urandom(3_000_000) + bytes(3_000_000)))
    whole = imported(pack(data), "named.wrongly.jpg")
    assert (whole / "big").stat().st_size == 6_000_000


def test_streams_one_after_another_are_one_archive(imported: Import) -> None:
    data = tar(file("big", os.urandom(100_000)), file("last", b"end"))
    half = len(data) // 2
    for pack in (gzip.compress, bz2.compress, lzma.compress, _zstd):
        root = imported(pack(data[:half]) + pack(data[half:]), f"{pack.__name__}.tar")
        assert (root / "last").read_bytes() == b"end"


def test_equal_content_is_stored_once(imported: Import) -> None:
    data = tar(file("a"))
    assert imported(data, "a.tar") == imported(gzip.compress(data), "b.tar.gz")


@pytest.mark.usefixtures("user_attributes")
def test_whiteouts_become_overlays(imported: Import) -> None:
    root = imported(
        tar(
            directory("d", mode=0o750, mtime=1111111111),
            file("d/.wh.gone", b""),
            file("d/.wh.kept", b""),
            file("d/kept", b"the entry wins over its whiteout"),
            directory("o"),
            file("o/.wh..wh..opq", b""),
            file("o/new"),
            directory(".wh..wh.plnk"),
            file(".wh..wh.plnk/1.2"),
            file(".wh..wh.aufs"),
        )
    )
    gone = (root / "d/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert (root / "d/kept").read_bytes() == b"the entry wins over its whiteout"
    assert sorted(os.listdir(root / "d")) == ["gone", "kept"]
    assert (root / "d").stat().st_mtime == 1111111111
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o750
    assert os.listdir(root / "o") == ["new"]
    spelling = "trusted.overlay.opaque" if os.geteuid() == 0 else "user.overlay.opaque"
    assert os.getxattr(root / "o", spelling) == b"y"
    assert sorted(os.listdir(root)) == ["d", "o"]


def test_a_whiteout_behind_a_link_lands_where_the_link_leads(imported: Import) -> None:
    root = imported(tar(directory("real"), symlink("link", "real"), file("link/.wh.x", b"")))
    assert stat.S_ISCHR((root / "real/x").lstat().st_mode)


def test_the_last_of_equal_names_wins(imported: Import) -> None:
    root = imported(
        tar(file("a", b"first"), symlink("b", "a"), file("a", b"second"), file("b", b"not through"))
    )
    assert (root / "a").read_bytes() == b"second"
    assert not (root / "b").is_symlink()


def test_the_callers_umask_has_no_say(imported: Import) -> None:
    before = os.umask(0o077)
    try:
        root = imported(tar(file("not/listed/f", mode=0o666), directory("d", mode=0o777), file("d/.wh.x")))
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE((root / name).stat().st_mode) for name in ("", "not", "not/listed", "not/listed/f", "d")
    ]
    assert modes == [0o755, 0o755, 0o755, 0o666, 0o777]


def test_absolute_names_land_inside(imported: Import) -> None:
    root = imported(tar(file("/etc/hello", b"inside"), hardlink("/etc/again", "/etc/hello")))
    assert (root / "etc/again").read_bytes() == b"inside"
    assert not Path("/etc/hello").exists()


def test_the_digest_is_of_the_uncompressed_stream(tmp_path: Path) -> None:
    from .tars import sha

    data = tar(file("a"))
    (tmp_path / "out").mkdir()
    done = unpack_module.unpack(iter([gzip.compress(data)]), str(tmp_path / "out"), Budget(Limits()))
    assert done.diff_id == sha(data)
    assert (done.entries, done.size, done.complete) == (1, len(data), True)


def test_a_stream_in_small_pieces_is_the_same(tmp_path: Path) -> None:
    data = gzip.compress(tar(file("a", os.urandom(5000)), file(".wh.b")))
    (tmp_path / "out").mkdir()
    pieces = (bytes([byte]) for byte in data)
    done = unpack_module.unpack(pieces, str(tmp_path / "out"), Budget(Limits()))
    assert done.entries == 2
    assert stat.S_ISCHR((tmp_path / "out/b").lstat().st_mode)


def test_a_layer_without_the_end_mark_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    data = tar(file("a"))[:1024]
    assert not unpack_module.unpack(iter([data]), str(tmp_path / "out"), Budget(Limits())).complete


def test_of_global_records_the_last_of_a_key_counts_and_what_means_nothing_is_dropped(
    imported: Import,
) -> None:
    comments = global_header(comment="c" * 1000) * 1100
    data = comments + global_header(mtime="5", comment="x") + global_header(mtime="7") + tar(file("a"))
    assert (imported(data) / "a").stat().st_mtime == 7
