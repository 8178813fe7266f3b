"""stdin, stdout and stderr: exactly as subprocess has them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import DEVNULL, PIPE, STDOUT
from tests.support.python import environment

BOTH = "echo out; echo err >&2"


def test_the_constants_are_subprocess_own() -> None:
    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)


CASES: list[dict[str, Any]] = [
    {"capture_output": True},
    {"stdout": PIPE},
    {"stderr": PIPE, "stdout": DEVNULL},
    {"stdout": PIPE, "stderr": STDOUT},
    {"stdout": PIPE, "stderr": DEVNULL},
    {"capture_output": True, "text": True},
    {"capture_output": True, "encoding": "latin-1"},
    {"capture_output": True, "universal_newlines": True},
    {"capture_output": True, "input": b"given"},
    {"capture_output": True, "input": "given", "text": True},
    {"capture_output": True, "input": b""},
    {"capture_output": True, "stdin": DEVNULL},
    {"stdout": DEVNULL, "stderr": DEVNULL},
]


@pytest.mark.parametrize("options", CASES, ids=repr)
def test_a_run_gives_what_subprocess_gives(options: dict[str, Any]) -> None:
    args = ["sh", "-c", BOTH + "; cat; exit 5"]
    options = {"stdin": DEVNULL, **options} if "input" not in options else options
    mine, theirs = pyminicon.run(args, **options), subprocess.run(args, check=False, **options)
    assert (mine.args, mine.returncode, mine.stdout, mine.stderr) == (
        theirs.args, theirs.returncode, theirs.stdout, theirs.stderr,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "raised"),
    [
        ({"capture_output": True, "stdout": PIPE}, ValueError),
        ({"input": b"x", "stdin": PIPE}, ValueError),
        ({"stdout": STDOUT}, ValueError),
        ({"input": "text"}, (TypeError, ValueError)),
        ({"input": b"bytes", "text": True}, (TypeError, ValueError, AttributeError)),
    ],
    ids=repr,
)
def test_what_subprocess_refuses_is_refused(options: dict[str, Any], raised: Any) -> None:
    if options != {"input": b"x", "stdin": PIPE}:
        with pytest.raises(Exception):  # noqa: B017
            subprocess.run(["cat"], check=False, **options)
    with pytest.raises(raised):
        pyminicon.run(["cat"], **options)


def test_files_are_used_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"skip me, read this")
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        os.lseek(source.fileno(), 9, 0)
        sink.write(b"head ")
        sink.flush()
        pyminicon.run(["sh", "-c", "cat; echo !; echo E >&2"], stdin=source, stdout=sink, stderr=STDOUT)
        assert source.fileno() >= 0
    assert (tmp_path / "out").read_bytes() == b"head read this!\nE\n"


def test_descriptors_may_be_given_by_number_and_crossed() -> None:
    """stdout on 2 and stderr on 1: nothing is overwritten on the way."""
    code = (
        "import pyminicon, sys; sys.stdout.flush();"
        "pyminicon.run(['sh', '-c', 'echo out; echo err >&2'], stdout=2, stderr=1)"
    )
    r = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(), cwd="/"
    )
    assert (r.stdout, r.stderr) == ("err\n", "out\n")


def test_nothing_given_is_inherited() -> None:
    code = "import pyminicon; pyminicon.run(['sh', '-c', 'cat; echo err >&2'])"
    r = subprocess.run(
        [sys.executable, "-c", code],
        input="fed",
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        cwd="/",
    )
    assert (r.stdout, r.stderr) == ("fed", "err\n")


def test_a_caller_whose_own_stdio_is_closed_can_still_capture() -> None:
    code = """
import os, pyminicon
report = os.dup(1)
for fd in (0, 1, 2):
    os.close(fd)
r = pyminicon.run(["sh", "-c", "cat; echo out; echo err >&2; ls /proc/self/fd | tr '\\n' ' '"], input=b"in ", capture_output=True)
os.write(report, repr((r.returncode, r.stdout, r.stderr)).encode())
"""
    r = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(), cwd="/"
    )
    assert r.stdout == repr((0, b"in out\n0 1 2 3 ", b"err\n"))


def test_large_input_and_output_at_once_dont_block_each_other() -> None:
    data = os.urandom(1 << 20) * 8
    r = pyminicon.run(["cat"], input=data, capture_output=True)
    assert r.stdout == data


def test_a_program_that_doesnt_read_its_input_is_no_error() -> None:
    r = pyminicon.run(["sh", "-c", "exec 0<&-; echo done"], input=b"x" * (1 << 20), capture_output=True)
    assert (r.returncode, r.stdout) == (0, b"done\n")


MANY = int(os.environ.get("PYMINICON_TEST_OUTPUT") or 200 << 20)


@pytest.mark.slow
def test_hundreds_of_megabytes_on_both_streams_come_through_whole() -> None:
    block = 1 << 16
    code = f"""
import os, sys
for number in range({MANY // block}):
    os.write(1, number.to_bytes(4, "little") * {block // 4})
    os.write(2, (number ^ 0xFFFFFFFF).to_bytes(4, "little") * {block // 4})
"""
    r = pyminicon.run(["python", "-c", code], image="python", capture_output=True)
    assert r.returncode == 0
    for stream, flip in ((r.stdout, 0), (r.stderr, 0xFFFFFFFF)):
        assert len(stream) == MANY // block * block
        want, view = hashlib.sha256(), memoryview(stream)
        for number in range(MANY // block):
            want.update((number ^ flip).to_bytes(4, "little") * (block // 4))
        assert hashlib.sha256(view).digest() == want.digest()


def test_a_grandchild_that_keeps_the_pipe_open_doesnt_hang_run() -> None:
    begun = time.monotonic()
    r = pyminicon.run(["sh", "-c", "sleep 60 & echo quick"], capture_output=True, text=True)
    assert r.stdout == "quick\n"
    assert time.monotonic() - begun < 20


def test_a_process_outside_that_keeps_the_pipe_open_doesnt_hang_run() -> None:
    """A fork of another thread meanwhile takes a copy of the pipe's write end along."""
    stop = threading.Event()
    held: list[int] = []

    def fork_often() -> None:
        while not stop.is_set() and len(held) < 20:
            pid = os.fork()
            if pid == 0:
                time.sleep(120)
                os._exit(0)
            held.append(pid)
            time.sleep(0.005)

    thread = threading.Thread(target=fork_often)
    thread.start()
    begun = time.monotonic()
    try:
        for _ in range(10):
            assert pyminicon.run(["sh", "-c", "echo x; sleep 0.01"], capture_output=True).stdout == b"x\n"
        assert time.monotonic() - begun < 60
    finally:
        stop.set()
        thread.join()
        for pid in held:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def test_output_without_a_newline_and_binary_output_are_kept() -> None:
    r = pyminicon.run(["printf", r"\000\377\r\n"], capture_output=True)
    assert r.stdout == b"\0\xff\r\n"


def test_text_mode_has_universal_newlines() -> None:
    assert pyminicon.run(["printf", r"a\r\nb\rc"], capture_output=True, text=True).stdout == "a\nb\nc"


def test_only_stdio_is_open_inside() -> None:
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        r = pyminicon.run(["ls", "/proc/self/fd"], capture_output=True, text=True)
        assert r.stdout.split() == ["0", "1", "2", "3"]  # 3 is ls's own
    finally:
        os.close(fd)


@pytest.mark.slow
def test_descriptors_opened_meanwhile_by_other_threads_never_get_in() -> None:
    stop = threading.Event()

    def open_often() -> None:
        while not stop.is_set():
            fds = [os.open("/", os.O_RDONLY) for _ in range(20)]
            for fd in fds:
                os.set_inheritable(fd, True)
            for fd in fds:
                os.close(fd)

    threads = [threading.Thread(target=open_often) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            r = pyminicon.run(["ls", "/proc/self/fd"], capture_output=True, text=True)
            assert r.stdout.split() == ["0", "1", "2", "3"]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("init", [False, True])
def test_pass_fds_keep_their_numbers_and_only_they(init: bool, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("through the descriptor")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    high = os.dup2(fd, 77, inheritable=False)
    try:
        line = f"cat /dev/fd/77; ls /proc/self/fd | tr '\\n' ' '; test ! -e /proc/self/fd/{fd}"
        r = pyminicon.run(["sh", "-c", line], pass_fds=[77], init=init, capture_output=True, text=True)
        assert (r.returncode, r.stderr) == (0, "")
        assert r.stdout == "through the descriptor0 1 2 3 77 "
    finally:
        os.close(fd)
        os.close(high)


NULL = "stat -L -c %d,%t:%T /proc/self/fd/0; chmod 667 /proc/self/fd/0; :"


@pytest.fixture
def null_device() -> Iterator[None]:
    """The host's /dev/null keeps its mode; put right if it didn't, for the rest of the machine."""
    before = os.stat("/dev/null").st_mode
    yield
    after = os.stat("/dev/null").st_mode
    if after != before:
        os.chmod("/dev/null", before & 0o7777)
    assert after == before


@pytest.mark.parametrize(
    "options", [{}, {"init": True}, {"user": "1000"}, {"volumes": ["/opt:/mnt"]}], ids=repr
)
@pytest.mark.parametrize("cold", [True, False])
def test_the_null_device_is_the_containers_own(
    cold: bool, options: dict[str, Any], null_device: None, needs_root: None
) -> None:
    """Through a descriptor of the host's, root inside could take it from everybody (chmod 0)."""
    if cold:
        r = pyminicon.run(["sh", "-c", NULL], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, **options)
    else:
        with pyminicon.Template(stock=1, **options) as template:
            r = template.run(["sh", "-c", NULL], stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    device, kind = r.stdout.decode().strip().split(",")
    assert kind == "1:3" and device != str(os.stat("/dev/null").st_dev)
    assert b"Read-only" in r.stderr


def test_the_null_device_of_a_user_namespace_is_the_hosts_and_has_no_owner_in_it(null_device: None) -> None:
    r = pyminicon.run(["sh", "-c", NULL], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, userns="private")
    assert b"1:3" in r.stdout and (b"not permitted" in r.stderr or b"Read-only" in r.stderr)


@pytest.mark.parametrize("missing", [(0,), (1, 2), (0, 1, 2)], ids=repr)
@pytest.mark.parametrize("template", [False, True])
def test_a_caller_that_has_closed_its_own_gives_the_null_device(
    missing: tuple[int, ...], template: bool, tmp_path: Path
) -> None:
    """As daemons do; whatever opened a file since has one of these numbers, and keeps it to itself."""
    code = f"""
import os, pyminicon
os.dup2(os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_CREAT), 9)
for n in {missing}: os.close(n)
line = "a=$(stat -L -c %t:%T /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2); echo $a >&9"
if {template}:
    with pyminicon.Template(stock=1) as t: t.run(["sh", "-c", line], pass_fds=[9])
else:
    pyminicon.run(["sh", "-c", line], pass_fds=[9])
"""
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), PIPE)
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, **streams)
    kinds = (tmp_path / "log").read_text().split()
    assert [n for n in range(3) if kinds[n] == "1:3"] == [*missing]


def test_every_stream_may_be_the_null_device_of_a_template() -> None:
    with pyminicon.Template(stock=1) as template:
        streams = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL}
        r = template.run(["sh", "-c", "read x && exit 1; echo y && echo z >&2 && exit 7"], **streams)
    assert r.returncode == 7


@pytest.mark.parametrize("userns", ["host", "private"])
def test_a_file_that_is_given_is_granted_but_to_a_user_namespace_belongs_to_nobody(
    userns: str, tmp_path: Path, needs_root: None
) -> None:
    """As subprocess has it: the descriptor itself, its offset shared. Root inside owns what root owns."""
    given = tmp_path / "given"
    given.write_text("read on")
    given.chmod(0o600)
    with open(given, "rb", buffering=0) as file:
        file.read(5)
        script = "cat; chmod 4777 /proc/self/fd/0; (echo X 1<>/proc/self/fd/0) 2>&1; :"
        r = pyminicon.run(["sh", "-c", script], stdin=file, capture_output=True, userns=userns)
    assert r.stdout.startswith(b"on")
    changed = given.stat().st_mode & 0o7777 == 0o4777
    assert changed is (userns == "host") and (given.read_text() == "read on") is not changed
