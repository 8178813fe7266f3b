"""Files and directories copied in and out: what comes along, what doesn't, and where it goes."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest


def plant(top: Path) -> Path:
    top.mkdir()
    (top / "a").mkdir(mode=0o750)
    (top / "a" / "program").write_text("#!/bin/sh\n")
    (top / "a" / "program").chmod(0o6755)
    (top / "a" / os.fsdecode(b"odd\n\xff")).write_text("odd")
    (top / "empty").mkdir()
    (top / "link").symlink_to("/etc/hostname")
    (top / "up").symlink_to("..")
    (top / "private").write_text("x")
    (top / "private").chmod(0o600)
    os.utime(top / "private", ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))
    os.utime(top / "a", ns=(1_400_000_000_000_000_000, 1_400_000_000_000_000_000))
    return top


def facts(top: Any) -> dict[str, Any]:
    """What a tree is like, the same for both sides."""
    found = {}
    for path in top.rglob("*"):
        info = path.lstat()
        name = str(path).removeprefix(str(top))
        row: tuple[Any, ...] = (stat.filemode(info.st_mode),)
        if stat.S_ISLNK(info.st_mode):
            row += (str(path.readlink()),)
        elif stat.S_ISREG(info.st_mode):
            row += (path.read_bytes(), info.st_mtime_ns)
        else:
            row += (info.st_mtime_ns,)
        found[name] = row
    return found


def without_setuid(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: (row[0].replace("s", "x").replace("S", "-"), *row[1:]) for name, row in rows.items()}


def test_a_tree_goes_in_and_comes_out_as_it_was(living: Any, tmp_path: Path) -> None:
    source = plant(tmp_path / "project")
    living.path("/tmp/in").mkdir()
    living.copy_in(source, "/tmp/in")
    inside = facts(living.path("/tmp/in/project"))
    assert inside == without_setuid(facts(source)) != {}
    living.copy_out("/tmp/in/project", tmp_path / "back")
    assert facts(tmp_path / "back") == inside
    assert (tmp_path / "back").lstat().st_mtime_ns == source.lstat().st_mtime_ns


def test_the_name_goes_beneath_a_directory_and_else_is_the_new_one(living: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    living.copy_in(tmp_path / "file", "/tmp")
    living.copy_in(str(tmp_path / "file"), "/tmp/other")
    assert living.path("/tmp/file").read_text() == living.path("/tmp/other").read_text() == "words"
    (tmp_path / "there").mkdir()
    living.copy_out("/tmp/other", tmp_path / "there")
    living.copy_out(living.path("/tmp/other"), str(tmp_path / "new"))
    assert (tmp_path / "there" / "other").read_text() == (tmp_path / "new").read_text() == "words"
    for name in ("file", "other"):
        living.path(f"/tmp/{name}").unlink()


def test_a_tree_that_is_there_is_filled_up(living: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "new").write_text("new")
    inside = living.path("/tmp/d")
    inside.mkdir()
    (inside / "old").write_text("old")
    (inside / "new").write_text("was here")
    living.copy_in(tmp_path / "d", "/tmp")
    assert sorted(path.name for path in inside.iterdir()) == ["new", "old"]
    assert (inside / "new").read_text() == "new"
    living.copy_out("/tmp/d", tmp_path)
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["new", "old"]
    inside.rmtree()


@pytest.mark.parametrize("what", ["fifo", "socket"])
def test_what_is_no_file_is_refused_on_the_way_in(living: Any, tmp_path: Path, what: str) -> None:
    (tmp_path / "tree").mkdir()
    odd = tmp_path / "tree" / "odd"
    if what == "fifo":
        os.mkfifo(odd)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            os.chdir(odd.parent)
            listener.bind("odd")
            os.chdir("/")
    for source in (odd, odd.parent):
        with pytest.raises(OSError) as caught:
            living.copy_in(source, "/tmp/refused")
        assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, str(odd))
    living.path("/tmp/refused").rmtree()


def test_errors_name_the_file(living: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError) as caught:
        living.copy_in(tmp_path / "nothing", "/tmp")
    assert caught.value.filename == str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError) as caught:
        living.copy_in(tmp_path / "file", "/tmp/nothing/at/all")
    assert caught.value.filename == "/tmp/nothing/at"
    with pytest.raises(FileNotFoundError) as caught:
        living.copy_in(tmp_path / "file", "/tmp/nothing/")
    assert caught.value.filename == "/tmp/nothing/"
    with pytest.raises(FileNotFoundError) as caught:
        living.copy_out("/tmp/nothing", tmp_path)
    assert caught.value.filename == "/tmp/nothing"
    with pytest.raises(FileNotFoundError):
        living.copy_out("/tmp", tmp_path / "nothing" / "at" / "all")
    with pytest.raises(FileNotFoundError):
        living.copy_out("/tmp", f"{tmp_path}/nothing/")
    living.path("/tmp/d").mkdir()
    living.path("/tmp/d/file").mkdir()
    with pytest.raises(IsADirectoryError):
        living.copy_in(tmp_path / "file", "/tmp/d")
    (tmp_path / "file").unlink()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        living.copy_out("/tmp/d", tmp_path)
    living.path("/tmp/d").rmtree()


def test_nothing_is_written_through_a_link_outside(living: Any, tmp_path: Path) -> None:
    """Links that somebody has put where the copy goes: to a file, a directory, the place itself."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine")
    inside = living.path("/tmp/tree")
    inside.mkdir()
    (inside / "file").write_text("theirs")
    (inside / "sub").mkdir()
    (inside / "sub" / "file").write_text("theirs")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").symlink_to(victim / "file")
    living.copy_out("/tmp/tree/file", tmp_path / "tree")
    assert (tmp_path / "tree" / "file").read_text() == "theirs"
    (tmp_path / "tree" / "sub").symlink_to(victim)
    with pytest.raises(NotADirectoryError):
        living.copy_out("/tmp/tree", tmp_path)
    (tmp_path / "place").symlink_to(victim)
    with pytest.raises(OSError) as caught:
        living.copy_out("/tmp/tree", tmp_path / "place")
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(tmp_path / "place"))
    assert [path.name for path in victim.iterdir()] == ["file"] and (victim / "file").read_text() == "mine"
    inside.rmtree()


def test_nothing_is_written_through_a_link_inside(living: Any, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "sub").mkdir()
    (tmp_path / "tree" / "sub" / "file").write_text("new")
    victim, inside = living.path("/tmp/victim"), living.path("/tmp/tree")
    for path in (victim, inside):
        path.mkdir()
    (victim / "file").write_text("old")
    (inside / "sub").symlink_to("/tmp/victim")
    with pytest.raises(FileExistsError) as caught:
        living.copy_in(tmp_path / "tree", "/tmp")
    assert caught.value.filename == "/tmp/tree/sub"
    (inside / "sub").unlink()
    (inside / "sub").mkdir()
    (inside / "sub" / "file").symlink_to("/tmp/victim/file")
    living.copy_in(tmp_path / "tree", "/tmp")
    assert (inside / "sub" / "file").read_text() == "new" and not (inside / "sub" / "file").is_symlink()
    assert (victim / "file").read_text() == "old"
    for path in (victim, inside):
        path.rmtree()


def test_holes_stay_holes(living: Any, tmp_path: Path) -> None:
    size = 1 << 40
    with open(tmp_path / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)
    living.copy_in(tmp_path / "sparse", "/tmp")
    inside = living.path("/tmp/sparse").stat()
    assert (inside.st_size, inside.st_blocks < 1024) == (size, True)
    living.copy_out("/tmp/sparse", tmp_path / "back")
    outside = os.stat(tmp_path / "back")
    assert (outside.st_size, outside.st_blocks < 1024) == (size, True)
    with open(tmp_path / "back", "rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(size // 2)
        assert file.read(7) == b"middle\0"
    living.path("/tmp/sparse").unlink()


def test_a_long_file_is_whole(living: Any, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 24 + b"end"
    (tmp_path / "long").write_bytes(data)
    living.copy_in(tmp_path / "long", "/tmp")
    living.copy_out("/tmp/long", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    living.path("/tmp/long").unlink()


def test_what_the_kernel_makes_up_is_copied_through_a_pipe(living: Any, tmp_path: Path) -> None:
    living.copy_out("/proc/version", tmp_path / "version")
    assert (tmp_path / "version").read_text().startswith("Linux version")


def test_a_link_alone_is_copied_as_a_link(living: Any, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere")
    living.copy_in(tmp_path / "link", "/tmp/link")
    assert str(living.path("/tmp/link").readlink()) == "/nowhere"
    living.copy_out("/tmp/link", tmp_path / "back")
    assert os.readlink(tmp_path / "back") == "/nowhere"
    living.path("/tmp/link").unlink()
