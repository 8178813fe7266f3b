"""Paths inside: what they are, whose rights they have, and what is handed out."""

from __future__ import annotations

import copy
import errno
import fcntl
import io
import os
import pickle
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import pyminicon
from pyminicon.inside import workers
from pyminicon.inside.home import Home, Rights
from pyminicon.inside.path import ContainerPath
from tests.support import fuse


@pytest.fixture
def place(living: Any) -> Iterator[Any]:
    """An empty directory inside, anybody's."""
    made = living.path("/tmp/place")
    made.mkdir()
    made.chmod(0o1777)
    yield made
    made.rmtree()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 1.5)


# ---- what it is


def test_it_is_nothing_that_opens_a_file_of_the_host(living: Any) -> None:
    path = living.path("/etc/passwd")
    for opens in (open, os.stat, os.fspath, Path, PurePosixPath, io.FileIO, shutil.copyfile):
        with pytest.raises(TypeError):
            opens(path)
    assert not isinstance(path, os.PathLike)


def test_it_belongs_to_its_container(living: Any, other: Any) -> None:
    path = living.path("/a")
    for how in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="can't be pickled"):
            how(path)
    same = [
        living.path("/a"),
        living.path(PurePosixPath("/a")),
        living.path(path),
        living.path("/") / "a",
        living.path("/b/../a").parent.parent / "a",
    ]
    assert {path} == set(same[:4]) and path == same[0] and hash(path) == hash(same[1])
    assert (
        path != living.path("/b")
        and path != other.path("/a")
        and path != "/a"
        and path != PurePosixPath("/a")
    )
    assert sorted([living.path("/b"), path]) == [path, living.path("/b")]
    for act in (
        lambda: path / other.path("b"),
        lambda: path.rename(other.path("b")),
        lambda: path.relative_to(other.path("/")),
    ):
        with pytest.raises(ValueError, match="another container"):
            act()
    for odd in (b"/a", 5, None):
        with pytest.raises(TypeError, match="a path inside is a str"):
            living.path(odd)
        with pytest.raises(TypeError):
            path / odd


def test_a_relative_path_begins_at_the_working_directory(at_tmp: Any) -> None:
    at_tmp.path("/tmp/below").mkdir()
    path = at_tmp.path("below") / "file"
    path.write_text("x")
    assert str(path) == "below/file" and at_tmp.path("/tmp/below/file").read_text() == "x"
    assert [str(one) for one in at_tmp.path("below").iterdir()] == ["below/file"]
    with pytest.raises(FileNotFoundError) as caught:
        at_tmp.path("below/nothing").stat()
    assert caught.value.filename == "below/nothing"
    at_tmp.path("below").rmtree()


def test_a_nul_in_a_name_is_a_value_error(living: Any) -> None:
    for act in ("stat", "read_bytes", "mkdir", "unlink", "iterdir"):
        with pytest.raises(ValueError, match="null"):
            for _ in getattr(living.path("/tmp/a\0b"), act)() or ():
                pass
    assert not living.path("/tmp/a\0b").exists()


# ---- whose rights


def test_it_has_the_rights_of_its_user(needs_root: None, living: Any, place: Any) -> None:
    secret = place / "secret"
    secret.write_text("for root")
    secret.chmod(0o600)
    theirs = living.path(str(place), user="1000")
    with pytest.raises(PermissionError) as caught:
        (theirs / "secret").read_text()
    assert caught.value.filename == "/tmp/place/secret"
    (theirs / "own").write_text("mine")
    assert ((place / "own").stat().st_uid, (place / "secret").stat().st_uid) == (1000, 0)
    for act in (
        (theirs / "secret").unlink,
        lambda: (theirs / "secret").chmod(0o666),
        living.path("/new", user="1000").mkdir,
    ):
        with pytest.raises(PermissionError):
            act()
    assert (theirs / "secret").parent == theirs == place  # by the path alone


def test_what_is_served_and_may_not_be_read_is_said_at_once(living: Any) -> None:
    """It goes through a pipe, and is opened only when that is there."""
    about_init = living.path("/proc/1/environ")
    assert about_init.is_file()
    with pytest.raises(PermissionError) as caught:
        about_init.read_bytes()
    assert caught.value.filename == "/proc/1/environ"
    for _ in range(20):
        for write in (
            lambda: living.path("/proc/1/mem").write_bytes(bytes(1 << 20)),
            lambda: living.path("/proc/1/mem").write_text("x"),
        ):
            with pytest.raises(PermissionError):
                write()
    assert living.path("/proc/1/status").read_text().startswith("Name:")


def test_strict_holds_root_to_the_modes(needs_root: None, living: Any, place: Any) -> None:
    theirs = living.path("/tmp/place/theirs", user="1000")
    theirs.write_text("words")
    theirs.chmod(0o600)
    assert living.path("/tmp/place/theirs").read_text() == "words"
    with pytest.raises(PermissionError):
        living.path("/tmp/place/theirs", strict=True).read_text()
    mine = living.path("/tmp/place/mine", strict=True)
    mine.write_text("x")
    assert mine.read_text() == "x"


# ---- what is handed out


def test_a_regular_file_is_the_file_itself(place: Any) -> None:
    path = place / "file"
    with path.open("w+b", buffering=0) as file:
        assert isinstance(file, io.FileIO) and file.name == "/tmp/place/file"
        info = os.fstat(file.fileno())
        assert stat.S_ISREG(info.st_mode) and (info.st_ino, info.st_nlink) == (path.stat().st_ino, 1)
        assert not os.get_inheritable(file.fileno())
        flags = fcntl.fcntl(file.fileno(), fcntl.F_GETFL)
        assert flags & os.O_ACCMODE == os.O_RDWR and not flags & (os.O_NONBLOCK | os.O_PATH)
        file.write(b"words")
        assert path.read_bytes() == b"words"
    with path.open("rb") as file:
        assert isinstance(file, io.BufferedReader) and file.seekable()
        with pytest.raises(OSError):
            os.write(file.fileno(), b"x")
    with path.open() as text:
        assert (text.read(), text.encoding.upper(), text.mode) == ("words", "UTF-8", "r")


def test_modes_that_mean_nothing_leave_the_file_as_it_is(place: Any) -> None:
    (place / "file").write_text("words")
    for mode in ("", "rw", "q", "wb+x", "br+w"):
        with pytest.raises(ValueError):
            (place / "file").open(mode)
    with pytest.raises(LookupError):
        (place / "file").open(encoding="no-such-thing")
    with pytest.raises(TypeError):
        (place / "file").write_text(b"bytes")
    with pytest.raises(TypeError):
        (place / "file").write_bytes("text")
    assert (place / "file").read_text() == "words"


@pytest.mark.parametrize(
    "name", ["/dev/null", "/dev/zero", "/dev/tty", "/tmp/place/fifo", "/tmp/place/socket", "/tmp/place/way"]
)
@pytest.mark.parametrize("mode", ["r", "w", "a", "r+", "x"])
def test_what_isnt_a_file_is_refused_before_it_is_opened(
    living: Any, place: Any, odd_files: Any, name: str, mode: str
) -> None:
    odd_files()
    (place / "way").symlink_to("fifo")
    with pytest.raises(OSError) as caught:
        living.path(name).open(mode)
    assert (caught.value.errno, caught.value.filename) == (
        errno.EEXIST if mode == "x" else errno.EOPNOTSUPP,
        name,
    )


def test_what_the_kernel_makes_up_comes_through_a_pipe(living: Any) -> None:
    with living.path("/proc/self/status").open() as file:
        assert stat.S_ISFIFO(os.fstat(file.fileno()).st_mode) and not file.seekable()
        assert file.name == "/proc/self/status"
        assert file.readline().startswith("Name:") and "Uid:" in file.read()
    assert living.path("/proc/version").read_bytes().startswith(b"Linux version")
    assert living.path("/proc/self/comm").write_text("other") == 5
    with pytest.raises(OSError) as caught:
        living.path("/proc/self/oom_score_adj").write_text("no number")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(io.UnsupportedOperation):
        living.path("/proc/version").open("r+")


def test_no_link_of_the_kernels_is_followed(living: Any) -> None:
    """/proc/PID/fd, cwd, exe and root lead wherever a process is, and that process may be ours."""
    for name in ("exe", "cwd", "root", "root/etc/passwd", "fd/0", "fd/3"):
        for act in ("stat", "read_bytes"):
            with pytest.raises(OSError) as caught:
                getattr(living.path("/proc/self") / name, act)()
            assert caught.value.errno in (errno.ELOOP, errno.ENOENT, errno.EACCES), name
    assert living.path("/proc/self/exe").is_symlink()


# ---- many at once, and again


def test_threads_dont_wait_for_each_other(place: Any) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                path = place / f"{number}-{turn}"
                path.write_text(str(turn))
                assert path.read_text() == str(turn) and path in set(place.iterdir())
                path.unlink()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and list(place.iterdir()) == []


def test_an_iteration_that_is_left_leaves_nothing(place: Any) -> None:
    for number in range(2000):
        (place / str(number)).touch()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        for _ in place.iterdir():
            break
    held = [iter(place.iterdir()) for _ in range(5)]
    for each in held:
        next(each)
    assert (place / "1").exists() and len(list(place.glob("1*"))) == 1111
    del held, each
    assert len(os.listdir("/proc/self/fd")) <= before + 8


def test_a_forked_child_is_told_whose_container_it_is(place: Any) -> None:
    (place / "file").write_text("words")
    (place / "other").write_text("words")
    for _ in range(3):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                (place / "file").read_text()
            except BaseException as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.close(writer)
        assert all((place / "file").read_text() == "words" for _ in range(50))
        os.waitpid(pid, 0)
        assert os.read(reader, 100).startswith(b"another process has started this container")
        os.close(reader)


def test_a_worker_that_cant_be_had_in_time_is_a_timeout_of_the_file() -> None:
    """As in a container that is stopped."""

    def start(*_: object) -> Any:
        raise TimeoutError

    path = ContainerPath(Rights(Home(start, "/", lambda: True), None, False), "/file")
    for act in (path.stat, path.read_bytes, lambda: list(path.iterdir()), path.mkdir):
        with pytest.raises(TimeoutError) as caught:
            act()
        assert (caught.value.errno, caught.value.filename) == (errno.ETIMEDOUT, "/file")


# ---- a file system whose server answers, or doesn't


@pytest.fixture
def served(needs_root: None, with_volume: Any) -> Iterator[tuple[Any, fuse.Files]]:
    """A container with /volume, which a FUSE server of the test's serves."""
    files = fuse.Files({"file": b"words" * 1000, "other": b""})
    try:
        with with_volume(files.where) as box:
            yield box, files
    finally:
        files.close()


def test_a_served_file_is_read_and_written_through_a_pipe(served: tuple[Any, fuse.Files]) -> None:
    box, files = served
    path = box.path("/volume")
    with (path / "file").open("rb") as file:
        assert stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
        assert file.read(7) == b"wordswo" and file.read() == (b"words" * 1000)[7:]
    assert sorted(one.name for one in path.iterdir()) == ["file", "other"]
    assert (path / "other").write_bytes(b"x" * 100_000) == 100_000
    assert files.files["other"] == b"x" * 100_000
    files.errors[fuse.WRITE] = errno.ENOSPC
    with pytest.raises(OSError) as caught:
        (path / "other").write_bytes(b"y" * 10)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, f"{path}/other")
    files.errors = {fuse.READ: errno.EIO}
    with pytest.raises(OSError) as caught:
        (path / "file").read_bytes()
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize(
    "silent, act",
    [
        (fuse.LOOKUP, lambda path: (path / "file").stat()),
        (fuse.GETATTR, lambda path: path.stat()),
        (fuse.OPENDIR, lambda path: list(path.iterdir())),
        (fuse.READDIR, lambda path: list(path.glob("*"))),
        (fuse.OPEN, lambda path: (path / "file").read_bytes()),
        (fuse.READ, lambda path: (path / "file").read_bytes()),
        (fuse.READ, lambda path: next((path / "file").open())),
        (fuse.WRITE, lambda path: (path / "other").write_bytes(b"x" * (1 << 20))),
        (fuse.FLUSH, lambda path: (path / "other").write_bytes(b"x")),
        (fuse.STATFS, lambda path: (path / "file").open()),
        (fuse.LOOKUP, lambda path: path.rmtree()),
    ],
)
def test_one_that_hangs_holds_nobody(
    served: tuple[Any, fuse.Files], impatient: None, silent: int, act: Any
) -> None:
    box, files = served
    path = box.path("/volume")
    assert path.exists()
    files.silent = {silent}
    began = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        act(path)
    assert time.monotonic() - began < 10 and caught.value.errno == errno.ETIMEDOUT
    assert str(caught.value.filename).startswith(str(path))
    began = time.monotonic()
    assert path.parent.is_dir() and box.path("/tmp").exists()
    assert time.monotonic() - began < 10


def test_whoever_waits_for_one_that_hangs_can_be_interrupted(
    served: tuple[Any, fuse.Files], tmp_path: Path
) -> None:
    box, files = served
    path = box.path("/volume/file")
    assert path.exists()
    files.silent = {fuse.LOOKUP}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for act in (path.stat, path.read_bytes, lambda: box.copy_out("/volume", tmp_path / "new")):
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                act()
            assert time.monotonic() - began < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert box.path("/tmp").is_dir()


def test_copies_from_one_that_hangs_end(
    served: tuple[Any, fuse.Files], impatient: None, tmp_path: Path
) -> None:
    box, files = served
    path = box.path("/volume")
    box.copy_out(str(path), tmp_path / "out")
    assert (tmp_path / "out" / "file").read_bytes() == b"words" * 1000
    files.silent = {fuse.READ}
    for act in (
        lambda: box.copy_out(str(path), tmp_path / "again"),
        lambda: box.get_archive(str(path)),
    ):
        with pytest.raises(TimeoutError):
            act()
    files.silent = {fuse.WRITE}
    (tmp_path / "other").write_bytes(b"x" * (1 << 20))
    with pytest.raises(OSError):
        box.copy_in(tmp_path / "other", str(path))


def test_mkdir_takes_the_modes_that_chmod_takes() -> None:
    with pyminicon.start() as c:
        for mode in (-1, 0o17777, 0o40755):
            path = c.path(f"/tmp/{mode}")
            path.mkdir(mode)
            path.rmdir()
        with pytest.raises(TypeError):
            c.path("/tmp/x").mkdir("0755")  # type: ignore[arg-type]
