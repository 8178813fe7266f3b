"""Archives put in and taken out: what they may hold, and where it goes."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest


def archive(*members: tuple[str, str, str], kind: str = "w", **more: Any) -> bytes:
    """(name, type, contents or link's target) each."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=kind, **more) as tar:
        for name, what, text in members:
            member = tarfile.TarInfo(name)
            member.type = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
                           "fifo": tarfile.FIFOTYPE, "char": tarfile.CHRTYPE}[what]  # fmt: skip
            member.mode = 0o6755 if what != "dir" else 0o7750
            member.mtime = 1_500_000_000
            member.uid = member.gid = 12345
            if what in ("link", "hard"):
                member.linkname = text
                tar.addfile(member)
            else:
                data = text.encode() if what == "file" else b""
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return whole.getvalue()


@pytest.fixture
def place(living: Any) -> Any:
    """An empty directory inside."""
    made = living.path("/tmp/place")
    made.mkdir()
    yield made
    made.rmtree()


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("as_file", [False, True])
def test_an_archive_is_unpacked(living: Any, place: Any, kind: str, as_file: bool) -> None:
    data = archive(
        ("d", "dir", ""), ("d/file", "file", "words"), ("d/link", "link", "/etc/passwd"), ("d/hard", "hard", "d/file"),
        ("no/directory/before", "file", "x"), kind=kind,
    )  # fmt: skip
    living.put_archive("/tmp/place", io.BytesIO(data) if as_file else data)
    assert (place / "d/file").read_text() == "words"
    assert str((place / "d/link").readlink()) == "/etc/passwd"
    assert (place / "d/hard").stat().st_ino == (place / "d/file").stat().st_ino
    assert (place / "no/directory/before").read_text() == "x"
    info = (place / "d/file").stat()
    mine = (place / "no").stat()
    assert (info.st_mode & 0o7777, info.st_mtime) == (0o755, 1_500_000_000)
    assert (info.st_uid, info.st_gid) == (mine.st_uid, mine.st_gid) != (12345, 12345)
    assert (place / "d").stat().st_mode & 0o7777 == 0o750


def test_a_stream_that_cant_seek_is_unpacked(living: Any, place: Any) -> None:
    reader, writer = os.pipe()
    data = archive(("file", "file", "words"))
    os.write(writer, data)
    os.close(writer)
    with open(reader, "rb") as file:
        living.put_archive(place, file)
    assert (place / "file").read_text() == "words"


@pytest.mark.parametrize("name", ["../out", "d/../../out", "/../out", "d/.."])
def test_names_that_lead_out_are_refused(living: Any, place: Any, name: str) -> None:
    for members in ([(name, "file", "x")], [("f", "file", "x"), ("hard", "hard", name)]):
        with pytest.raises(OSError) as caught:
            living.put_archive("/tmp/place", archive(*members))
        assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, name)
    assert not living.path("/tmp/out").exists()


def test_an_absolute_name_goes_beneath(living: Any, place: Any) -> None:
    living.put_archive("/tmp/place", archive(("/etc/thing", "file", "x")))
    assert (place / "etc/thing").read_text() == "x" and not living.path("/etc/thing").exists()


@pytest.mark.parametrize("target", ["/tmp/victim", "..", "../victim", "inner/../../victim"])
def test_nothing_is_unpacked_through_a_link_that_leads_out(living: Any, place: Any, target: str) -> None:
    victim = living.path("/tmp/victim")
    victim.mkdir(exist_ok=True)
    (victim / "file").write_text("mine")
    members = [("inner", "dir", ""), ("way", "link", target), ("way/file", "file", "theirs")]
    with pytest.raises(OSError):
        living.put_archive("/tmp/place", archive(*members))
    members = [("inner", "dir", ""), ("way2", "link", "/tmp/victim/file"), ("way2", "file", "theirs")]
    living.put_archive("/tmp/place", archive(*members))
    assert (place / "way2").read_text() == "theirs"
    assert [path.name for path in victim.iterdir()] == ["file"] and (victim / "file").read_text() == "mine"
    assert not living.path("/tmp/file").exists()
    victim.rmtree()


def test_a_link_that_stays_beneath_is_followed(living: Any, place: Any) -> None:
    living.put_archive(
        "/tmp/place", archive(("usr", "dir", ""), ("lib", "link", "usr"), ("lib/x", "file", "x"))
    )
    assert (place / "usr/x").read_text() == "x" and (place / "lib").is_symlink()
    living.put_archive("/tmp/place", archive(("lib", "dir", ""), ("lib/y", "file", "y")))
    assert (place / "usr/y").read_text() == "y" and (place / "lib").is_symlink()


@pytest.mark.parametrize("what", ["fifo", "char"])
def test_devices_and_pipes_are_refused(living: Any, place: Any, what: str) -> None:
    with pytest.raises(OSError) as caught:
        living.put_archive("/tmp/place", archive(("odd", what, "")))
    assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, "odd")
    assert not (place / "odd").exists()


def test_what_is_no_archive_is_an_error(living: Any, place: Any) -> None:
    whole = archive(("file", "file", "x" * 5000))
    for data in (b"not an archive" * 100, whole[:3000], b"\x1f\x8b" + b"x" * 600):
        with pytest.raises(OSError, match="not an archive") as caught:
            living.put_archive("/tmp/place", data)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(TypeError, match="bytes or a binary file"):
        living.put_archive("/tmp/place", 5)
    with pytest.raises(NotADirectoryError):
        living.put_archive("/tmp/place/file", whole)
    with pytest.raises(FileNotFoundError):
        living.put_archive("/tmp/nothing", whole)


def test_a_header_without_end_takes_no_memory(living: Any, place: Any) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 33
    words = member.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
    first = tarfile.TarInfo("first").tobuf(tarfile.GNU_FORMAT)
    for archive in (words, first + words):
        with pytest.raises(OSError, match="longer than 1M"):
            living.put_archive("/tmp/place", archive)


def test_what_comes_out_is_an_archive_of_it(living: Any, place: Any, tmp_path: Path) -> None:
    odd = os.fsdecode(b"odd\n\xff")
    (place / "d").mkdir(0o750)
    (place / "d" / odd).write_text("odd")
    (place / "d" / ("long" * 60)).write_bytes(b"x" * 100_000)
    (place / "link").symlink_to("d/nothing")
    (place / "program").write_text("#!")
    (place / "program").chmod(0o4755)
    with living.get_archive("/tmp/place") as file, tarfile.open(fileobj=file) as tar:
        members = {member.name: member for member in tar}
        assert set(members) == {
            "place",
            "place/d",
            f"place/d/{odd}",
            "place/d/" + "long" * 60,
            "place/link",
            "place/program",
        }
        content = tar.extractfile("place/d/" + "long" * 60)
        assert content is not None and content.read() == b"x" * 100_000
        assert members["place/link"].linkname == "d/nothing"
        assert members["place/program"].mode == 0o4755 and members["place/d"].mode == 0o750
        assert members["place/program"].mtime == pytest.approx((place / "program").stat().st_mtime)
    with living.get_archive(place / "program") as file, tarfile.open(fileobj=file) as tar:
        assert tar.getnames() == ["program"]
    with living.get_archive("/proc/version") as file, tarfile.open(fileobj=file) as tar:
        content = tar.extractfile("version")
        assert content is not None and content.read().startswith(b"Linux version")


def test_there_and_back(living: Any, place: Any) -> None:
    (place / "a").mkdir()
    (place / "a" / "b").write_text("words")
    (place / "a" / "l").symlink_to("b")
    with living.get_archive("/tmp/place/a") as file:
        (place / "again").mkdir()
        living.put_archive("/tmp/place/again", file)
    assert (place / "again/a/l").read_text() == "words"


def test_what_is_no_file_isnt_packed(living: Any, place: Any) -> None:
    with pytest.raises(OSError) as caught:
        living.get_archive("/dev/null")
    assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, "/dev/null")
    with pytest.raises(FileNotFoundError):
        living.get_archive("/tmp/nothing")
