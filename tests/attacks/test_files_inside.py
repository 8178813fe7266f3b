"""What a program inside can do to whoever works on its files from outside: nothing leads out, hangs or grows.

Each half also shows that the program does what it says, and that the same works where nobody is in the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.inside import workers

SWAP = """
import ctypes, os, sys
os.chdir("/tmp/play")
libc = ctypes.CDLL(None)
def exchange(a, b):
    libc.syscall({renameat2}, -100, a.encode(), -100, b.encode(), 2)
{setup}
print("ready", flush=True)
while True:
    {act}
""".replace("{renameat2}", str({"x86_64": 316, "aarch64": 276}[os.uname().machine]))
SECONDS = 2.0


def turns(enough: Callable[[], Any] = lambda: True, least: int = 1) -> Iterator[int]:
    """1, 2, … for as many seconds, and on a busy machine until there were ``enough`` of them."""
    end = time.monotonic() + SECONDS
    turn = 0
    while time.monotonic() < end or not ((turn >= least and enough()) or time.monotonic() > end + 60):
        turn += 1
        yield turn


#: Without root there is but one user inside.
OTHER = "1000" if os.geteuid() == 0 else None


@pytest.fixture
def box(request: pytest.FixtureRequest) -> Iterator[Any]:
    with pyminicon.start(image="host") as made:
        made.path("/tmp/play").mkdir()
        made.path("/tmp/play").chmod(0o777)
        yield made
    request.node.funcargs.pop("box")  # it would be held until what is left has been counted


@contextlib.contextmanager
def hostile(box: Any, setup: str, act: str = "time.sleep(9)", user: str | None = None) -> Iterator[Any]:
    """A program inside that does ``act`` all the time."""
    code = SWAP.replace("{setup}", "import time\n" + setup).replace("{act}", act)
    more = {} if user is None else {"user": user}
    with box.start(["python3", "-c", code], stdout=-1, text=True, **more) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.poll() is None, "the hostile program has ended by itself"


def test_a_name_that_changes_all_the_time_gives_a_file_or_an_error(box: Any) -> None:
    """It is a file, a link, a pipe, a device, a directory, nothing: by turns, under each operation."""
    setup = """
open("one", "w").write("one"); os.mkfifo("pipe"); os.symlink("/dev/zero", "device"); os.mkdir("d")
os.symlink("/proc/1/root/etc/passwd", "magic"); os.symlink("name", "loop"); os.symlink("one", "name")
import random
"""
    act = 'exchange("name", random.choice(["one", "pipe", "device", "d", "magic", "loop", "nothing"]))'
    path, seen, errors = box.path("/tmp/play/name"), set(), set()
    with hostile(box, setup, act):
        for _ in turns(lambda: seen and {errno.EOPNOTSUPP, errno.ELOOP, errno.EISDIR} <= errors):
            for mode in ("rb", "r+b"):
                began = time.monotonic()
                try:
                    with path.open(mode, buffering=0) as file:
                        assert stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                        seen.add(file.read(10))
                except OSError as error:
                    errors.add(error.errno)
                assert time.monotonic() - began < 5
    assert seen == {b"one"}
    assert (
        {errno.EOPNOTSUPP, errno.ELOOP, errno.EISDIR}
        <= errors
        <= {errno.EOPNOTSUPP, errno.ELOOP, errno.EISDIR, errno.ENOENT, errno.EACCES}
    )


def test_a_file_that_is_made_while_others_are_put_there_is_never_another(box: Any) -> None:
    """What is written goes to no pipe and no device, and a link is followed as the kernel follows it, inside."""
    setup = 'os.mkfifo("pipe"); os.symlink("/dev/full", "device")'
    act = """
    for what in ("pipe", "device"):
        try: os.link(what, "new", follow_symlinks=False)
        except OSError: pass
        try: os.unlink("new")
        except OSError: pass
"""
    path, seen = box.path("/tmp/play/new"), {"made": 0, "refused": 0}
    with hostile(box, setup, act):
        for _ in turns(lambda: min(seen.values()) > 10):
            try:
                with path.open("wb") as file:
                    assert stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                    seen["made"] += 1
            except OSError as error:
                assert error.errno in (errno.EOPNOTSUPP, errno.EBUSY, errno.ENOENT, errno.EEXIST)
                seen["refused"] += 1
    assert min(seen.values()) > 10


def test_a_tree_that_is_swapped_for_a_link_is_copied_from_nowhere_else(box: Any, tmp_path: Path) -> None:
    secret = box.path("/tmp/secret")
    secret.mkdir()
    (secret / "file").write_text("secret")
    setup = """
os.makedirs("tree/sub"); open("tree/sub/file", "w").write("mine"); os.symlink("/tmp/secret", "link")
"""
    found: list[int] = []
    with hostile(box, setup, 'exchange("tree/sub", "link")'):
        for turn in turns(lambda: found, 6):
            out = tmp_path / str(turn)
            with contextlib.suppress(OSError):
                box.copy_out("/tmp/play/tree", out)
            sub = out / "sub"
            if not sub.is_symlink() and (sub / "file").exists():
                assert (sub / "file").read_text() == "mine"
                found.append(turn)
            with contextlib.suppress(OSError), box.get_archive("/tmp/play/tree") as file:
                assert b"secret\0" not in file.read().replace(b"/tmp/secret", b"")
    assert turn > 5 and found


def test_what_is_copied_in_or_removed_goes_through_no_swapped_link(box: Any, tmp_path: Path) -> None:
    victim = box.path("/tmp/victim")
    victim.mkdir()
    (victim / "keep").write_text("keep")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "sub").mkdir()
    for number in range(30):
        (tmp_path / "tree" / "sub" / str(number)).write_text("x")
    setup = 'os.makedirs("tree/sub"); os.symlink("/tmp/victim", "link")'
    act = """
    exchange("tree/sub", "link")
    try: os.makedirs("tree/sub")
    except OSError: pass
"""
    with hostile(box, setup, act):
        for turn in turns(least=6):  # noqa: B007  (asked for afterwards)
            with contextlib.suppress(OSError):
                box.copy_in(tmp_path / "tree", "/tmp/play")
            with contextlib.suppress(OSError):
                box.path("/tmp/play/tree").rmtree()
    assert turn > 5
    assert [path.name for path in victim.iterdir()] == ["keep"] and (victim / "keep").read_text() == "keep"


def test_the_callers_directory_is_all_that_is_written(box: Any, tmp_path: Path) -> None:
    """Names of a hostile tree: whatever they are, they are names in the directory."""
    odd = ["..\\up", "a\nb", "-rf", "~", "%2e%2e", "...", "c:x", "x" * 255]
    top = box.path("/tmp/play/tree")
    top.mkdir()
    for name in odd:
        (top / name).write_text(name)
    (top / "abs").symlink_to("/etc/passwd")
    (top / "up").symlink_to("../../..")
    (tmp_path / "place").mkdir()
    box.copy_out("/tmp/play/tree", tmp_path / "place")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place"]
    assert {path.name for path in (tmp_path / "place" / "tree").iterdir()} == {*odd, "abs", "up"}
    assert os.readlink(tmp_path / "place" / "tree" / "abs") == "/etc/passwd"


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".", "", "a\0b"])
def test_a_name_that_no_kernel_gives_is_left_out(name: str) -> None:
    """A worker that somebody has taken over says what he likes."""
    from pyminicon.inside import wire

    message = b"\0" * 8 + b"\x08good\0" + b"\x08" + name.encode() + b"\0"
    names = [name for name, _ in wire.entries_of(wire.Reply(message))]
    assert names[0] == "good" and not {
        one for one in names if one in ("..", ".", "") or "/" in one or "\0" in one
    }


def test_a_directory_without_end_takes_no_memory(box: Any) -> None:
    many = 100_000
    box.run(
        [
            "python3",
            "-c",
            f"import os\nos.chdir('/tmp/play')\nfor i in range({many}): os.mknod(f'a-rather-long-name-{{i}}')",
        ],
        check=True,
    )
    path = box.path("/tmp/play")
    began = time.monotonic()
    next(path.iterdir())
    first = time.monotonic() - began
    tracemalloc.start()
    began = time.monotonic()
    count = sum(1 for _ in path.iterdir())
    assert first < max(0.5, (time.monotonic() - began) / 5), "the first name waits for none of the others"
    matched = sum(1 for _ in path.glob("*-1*"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, matched > 1000) == (many, True) and peak < 8 << 20  # all of them would take 30
    path.rmtree()
    assert not path.exists()


def test_more_names_than_can_be_kept_are_an_error(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyminicon.inside import ops

    monkeypatch.setattr(ops, "MOST_NAMES", 5000)
    box.run(
        ["python3", "-c", "import os\nos.chdir('/tmp/play')\nfor i in range(9000): os.mknod(str(i))"],
        check=True,
    )
    path = box.path("/tmp/play")
    assert len(list(path.iterdir())) == 9000
    for act in (
        lambda: list(path.walk()),
        lambda: list(path.rglob("*")),
        lambda: box.get_archive("/tmp/play"),
    ):
        with pytest.raises(OSError) as caught:
            act()
        assert caught.value.errno == errno.EOVERFLOW


def test_a_tree_deeper_than_any_name_can_be_told_ends(box: Any, tmp_path: Path) -> None:
    deep = """
import os
os.chdir("/tmp/play")
for _ in range(5000):
    os.mkdir("d"); os.chdir("d")
open("file", "w").write("x")
"""
    box.run(["python3", "-c", deep], check=True)
    path = box.path("/tmp/play")
    for act in (
        lambda: box.copy_out("/tmp/play", tmp_path / "out"),
        lambda: box.get_archive("/tmp/play"),
        lambda: list(path.rglob("*")),
        lambda: list(path.walk(on_error=_raise)),
    ):
        with pytest.raises(OSError) as caught:
            act()
        assert caught.value.errno == errno.ENAMETOOLONG
    path.rmtree()
    assert not path.exists()


def _raise(error: OSError) -> None:
    raise error


def test_a_file_that_grows_without_end_is_read_as_far_as_it_was(box: Any, tmp_path: Path) -> None:
    act = (
        'file.write(b"x" * 65536); size = file.tell(); size > 200 << 20 and file.seek(file.truncate(1 << 20))'
    )
    with hostile(box, 'file = open("file", "wb", buffering=0)', act):
        path = box.path("/tmp/play/file")
        while path.stat().st_size < 1 << 20:
            time.sleep(0.01)
        for turn in range(5):
            began = time.monotonic()
            assert len(path.read_bytes()) <= 201 << 20
            box.copy_out("/tmp/play/file", tmp_path / str(turn))
            assert time.monotonic() - began < 60


def test_a_terabyte_of_nothing_is_no_terabyte(box: Any, tmp_path: Path) -> None:
    box.run(
        [
            "python3",
            "-c",
            "import os; os.truncate(os.open('/tmp/play/file', os.O_CREAT | os.O_WRONLY), 1 << 40)",
        ],
        check=True,
    )
    box.copy_out("/tmp/play", tmp_path / "out")
    info = os.stat(tmp_path / "out" / "file")
    assert (info.st_size, info.st_blocks) == (1 << 40, 0)


def test_a_lease_holds_nobody(box: Any) -> None:
    """Who has a lease on his file makes those who open it wait for up to 45 s; they may ask not to."""
    setup = """
import fcntl, signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
open("file", "w").write("x")
file = open("file")
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
"""
    with hostile(box, setup):
        began = time.monotonic()
        with pytest.raises(BlockingIOError) as caught:
            box.path("/tmp/play/file").open("r+")
        assert time.monotonic() - began < 20 and caught.value.filename == "/tmp/play/file"
        assert box.path("/tmp/play/file").read_text() == "x"  # a reader doesn't break it


FIND = """
import os
mine = os.getuid()
def workers():
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in (1, os.getpid()):
            try:
                status = open(f"/proc/{pid}/status").read()
            except OSError:
                continue
            if "pyminicon" in status.splitlines()[0]:
                yield int(pid)
"""


def test_a_worker_cant_be_looked_into(box: Any) -> None:
    """By a program of the same user, root and another: not traced, not read, none of its descriptors."""
    for user in (None, OTHER):
        box.path("/tmp/play", user=user).stat()
    code = (
        FIND
        + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
found = list(workers())
assert found, "no worker"
for pid in found:
    for name in ("mem", "environ", "maps", "fd/0", "exe", "root", "cwd"):
        path = f"/proc/{pid}/{name}"
        for look in (os.readlink, open, os.listdir):
            try:
                look(path)
                if name != "mem": print("read", path)
                open(path).read(1)
                print("read", path)
            except OSError as error:
                assert error.errno in (1, 13, 20, 22), error
    if libc.ptrace(16, pid, 0, 0) == 0: print("traced", pid)
    fd = libc.syscall(434, pid, 0)
    if fd >= 0 and libc.syscall(438, fd, 0, 0) >= 0: print("took", pid)
print("looked at", len(found))
"""
    )
    for user in (None, OTHER):
        as_whom = {"user": user} if user else {}
        told = box.run(["python3", "-c", code], capture_output=True, text=True, **as_whom)
        assert told.stderr == "" and [line.split()[0] for line in told.stdout.splitlines()] == ["looked"], (
            told
        )


@pytest.mark.parametrize("number", ["9", "19"])
def test_workers_that_are_killed_or_stopped_hold_nobody(
    needs_root: None, box: Any, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.3)
    path = box.path("/tmp/play/file", user="1000")
    path.write_text("x")
    act = f"""
    for pid in workers():
        try: os.kill(pid, {number})
        except OSError: pass
    time.sleep(0.005)
"""
    answers: dict[str, int] = {}
    with hostile(box, FIND, act, user="1000"):
        for _ in turns(lambda: answers.get("ok")):
            began = time.monotonic()
            try:
                path.stat()
                told = "ok"
            except OSError as error:
                told = type(error).__name__
            answers[told] = answers.get(told, 0) + 1
            assert time.monotonic() - began < 10
    assert set(answers) <= {"ok", "Gone", "TimeoutError", "ConnectionResetError"} and answers.get("ok")
    monkeypatch.setattr(workers, "PATIENCE", 60)
    assert path.read_text() == "x"
    assert box.path("/tmp/play/file").exists()


def test_no_process_is_to_be_had_and_the_error_says_so(needs_root: None) -> None:
    with pyminicon.start(image="host", pids=12) as box:
        box.path("/tmp/play").mkdir()
        fork = "import os, time\nwhile True:\n    try:\n        if os.fork() == 0: time.sleep(1000)\n    except OSError: time.sleep(0.01)"
        with box.start(["python3", "-c", fork]):
            time.sleep(0.7)
            assert box.path("/tmp/play").exists()  # its worker is there
            began = time.monotonic()
            with contextlib.suppress(OSError, pyminicon.Error):
                box.path("/tmp/play", user="1000").exists()
            assert time.monotonic() - began < 40
        assert box.path("/tmp/play", user="1000").exists()


def test_what_is_handed_out_leads_to_no_other_file(box: Any) -> None:
    """A descriptor of one file is no way to a directory, up or down."""
    path = box.path("/tmp/play/file")
    path.write_text("x")
    with path.open("rb", buffering=0) as file:
        for name in ("..", "../..", "x"):
            with pytest.raises(NotADirectoryError):
                os.stat(name, dir_fd=file.fileno())
        with pytest.raises(NotADirectoryError):
            os.fchdir(file.fileno())
        with pytest.raises(OSError):
            resource.prlimit(0, resource.RLIMIT_NOFILE) and os.listdir(file.fileno())
