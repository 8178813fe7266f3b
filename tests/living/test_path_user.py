"""Files inside as an ordinary user has them, and where nothing may be written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from tests.support import ordinary

AS_USER = """
import errno, os, pwd, shutil, stat, pyminicon
home = os.environ["HOME"]
me = os.geteuid()
os.mkdir(f"{home}/tree"); open(f"{home}/tree/file", "w").write("words"); os.symlink("file", f"{home}/tree/link")
os.chmod(f"{home}/tree/file", 0o6755)
with pyminicon.start(image="host") as c:
    path = c.path("/tmp/file")
    path.write_text("inside")
    with path.open("r+b", buffering=0) as file:
        assert stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.read() == b"inside"
    assert path.stat().st_uid == 0, path.stat()
    c.copy_in(f"{home}/tree", "/tmp")
    info = c.path("/tmp/tree/file").stat()
    assert (info.st_uid, info.st_mode & 0o7777) == (0, 0o755), info
    c.copy_out("/tmp/tree", f"{home}/back")
    info = os.stat(f"{home}/back/file")
    assert (info.st_uid, info.st_mode & 0o7777, os.readlink(f"{home}/back/link")) == (me, 0o755, "file"), info
    with c.get_archive("/tmp/tree") as file:
        c.path("/tmp/again").mkdir()
        c.put_archive("/tmp/again", file)
    assert c.path("/tmp/again/tree/file").read_text() == "words"
    for act in (lambda: c.path("/proc/sys/kernel/hostname").write_text("x"), lambda: c.path("/etc/shadow").read_text()):
        try:
            act()
            raise SystemExit("it was allowed")
        except OSError as error:
            assert error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.EPERM), error
    try:
        c.path("/tmp", user="1000").stat()
        raise SystemExit("a user that the namespace doesn't have")
    except pyminicon.SpecError as error:
        assert error.option == "user", error
def has_range():
    names = {str(me), *(one.pw_name for one in pwd.getpwall() if one.pw_uid == me)}
    with open("/etc/subuid") as file:
        return any(line.split(":")[0] in names and line.split(":")[1] == "SUB" for line in file)
if shutil.which("newuidmap") and has_range():
    with pyminicon.start(userns=f"0:{me}:1,1:{SUB}:65535") as c:
        other = c.path("/tmp/other", user="1000")
        other.write_text("x")
        assert other.stat().st_uid == 1000
        other.chmod(0o600)
        assert c.path("/tmp/other").read_text() == "x"
        try:
            c.path("/tmp/other", strict=True).read_text()
            raise SystemExit("strict was allowed")
        except PermissionError:
            pass
        c.copy_in(f"{home}/tree", "/tmp", user="1000")
        assert c.path("/tmp/tree/file").stat().st_uid == 1000
        c.copy_out("/tmp/tree", f"{home}/third")
        assert os.stat(f"{home}/third/file").st_uid == me
print("done")
"""


def test_an_ordinary_user_has_them_all(as_user: Callable[..., Any]) -> None:
    r = as_user(AS_USER.replace("SUB", str(ordinary.SUB_START)))
    assert r.stdout == "done\n", r.stderr[-3000:]


def test_a_volume_that_is_read_only_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pyminicon.start(volumes=[f"{tmp_path}:/volume:ro"]) as box:
        path = box.path("/volume/file")
        assert path.read_text() == "mine"
        for act in (
            lambda: path.write_text("x"),
            lambda: path.open("r+"),
            path.unlink,
            lambda: path.chmod(0o777),
            lambda: path.rename("/volume/other"),
            path.parent.joinpath("new").touch,
            path.parent.joinpath("new").mkdir,
            lambda: path.parent.joinpath("new").symlink_to("x"),
            lambda: box.copy_in("/etc/hostname", "/volume"),
        ):
            with pytest.raises(OSError) as caught:
                act()
            assert (
                caught.value.errno == errno.EROFS
                and "/volume/" in f"{caught.value.filename}/{caught.value.filename2}/"
            )
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (
        tmp_path / "file"
    ).read_text() == "mine"


def test_a_volume_that_may_be_written_is_written(tmp_path: Path) -> None:
    with pyminicon.start(volumes=[f"{tmp_path}:/volume"]) as box:
        box.path("/volume/file").write_text("theirs")
        box.path("/volume/sub").mkdir()
        box.copy_in("/etc/hostname", "/volume/sub")
        assert (tmp_path / "file").read_text() == "theirs" and (tmp_path / "sub" / "hostname").exists()
        box.path("/volume/sub").rmtree()
        assert not (tmp_path / "sub").exists()
        with pytest.raises(OSError) as caught:  # a mount stays, and what is in it as well
            box.path("/volume").rmtree()
        assert caught.value.errno == errno.EBUSY or not any(tmp_path.iterdir())


def test_a_tree_is_removed_up_to_the_next_mount(tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("keep")
    with pyminicon.start(volumes=[f"{tmp_path}:/tmp/a/b/volume"]) as box:
        (box.path("/tmp/a") / "file").write_text("x")
        with pytest.raises(OSError) as caught:
            box.path("/tmp/a").rmtree()
        assert caught.value.errno in (errno.EXDEV, errno.EBUSY)
    assert (tmp_path / "keep").read_text() == "keep"


def test_a_container_without_a_layer_takes_files_in_its_tmpfs_alone() -> None:
    with pyminicon.start(read_only=True) as box:
        with pytest.raises(OSError) as caught:
            box.path("/usr/new").write_text("x")
        assert caught.value.errno == errno.EROFS
        assert box.path("/usr/bin/env").stat().st_size == len(box.path("/usr/bin/env").read_bytes()) > 0


def test_with_limits_and_without_capabilities_it_is_the_same(needs_root: None) -> None:
    for options in (
        {"memory": "256M", "pids": 50},
        {"cap_drop": ["ALL"]},
        {"user": "1000"},
        {"network": "host"},
    ):
        with pyminicon.start(**options) as box:  # type: ignore[call-overload]
            box.path("/tmp/file").write_text("x")
            assert box.path("/tmp/file").stat().st_uid == (1000 if "user" in options else 0)
            assert box.path("/tmp/file", user="1001").read_text() == "x"


def test_what_takes_no_commands_has_no_files_and_what_ended_neither() -> None:
    with pyminicon.start(["sleep", "1000"]) as box, pytest.raises(pyminicon.SpecError, match="init"):
        box.path("/tmp")
    with pyminicon.start(["sleep", "1000"], init=True) as box:
        assert box.path("/tmp").is_dir()
        path = box.path("/tmp/file")
        path.touch()
        box.kill()
        box.wait()
        for act in (
            path.exists,
            path.read_bytes,
            path.unlink,
            path.mkdir,
            lambda: list(path.iterdir()),
            lambda: box.get_archive("/tmp"),
        ):
            with pytest.raises(pyminicon.ContainerEnded) as caught:
                act()
            assert (caught.value.id, caught.value.returncode) == (box.id, -9)
        with pytest.raises(pyminicon.ContainerEnded):
            box.path("/tmp")


@pytest.mark.parametrize("user", ["nobody-of-that-name", "-1", "1:2:3", 5, ""])
def test_a_user_that_isnt_there_is_a_spec_error(user: Any) -> None:
    with pyminicon.start() as box:
        with pytest.raises(pyminicon.SpecError, match="user"):
            box.path("/tmp", user=user).stat()
        assert box.path("/tmp").is_dir()
