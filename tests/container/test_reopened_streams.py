"""/dev/stdin, /dev/stdout and /dev/stderr: a program opens its streams again by name, whoever it is by then."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.support.python import environment

SCRIPT = "cat </dev/stdin >/dev/stdout; echo err >>/dev/stderr"
SAID = (b"given", b"err\n")
WHO: list[dict[str, Any]] = [
    {},
    {"user": "1000"},
    {"userns": "private"},
    {"userns": "private", "user": "1000"},
    {"cap_drop": ["ALL"]},
]
HOW: list[dict[str, Any]] = [{}, {"init": True}, {"read_only": True}, {"max_output": 1000}]

anyone = pytest.mark.parametrize("who", WHO, ids=repr)


def cold(options: dict[str, Any]) -> Any:
    return pyminicon.run(["sh", "-c", SCRIPT], input=b"given", capture_output=True, **options)


def stocked(options: dict[str, Any]) -> Any:
    each = {name: options.pop(name) for name in ("max_output",) if name in options}
    with pyminicon.Template(stock=1, **options) as template:
        return template.run(["sh", "-c", SCRIPT], input=b"given", capture_output=True, **each)


def looped(options: dict[str, Any]) -> Any:
    return asyncio.run(aio.run(["sh", "-c", SCRIPT], input=b"given", capture_output=True, **options))


@anyone
@pytest.mark.parametrize("how", HOW, ids=repr)
@pytest.mark.parametrize("run", [cold, stocked, looped])
def test_pipes_are_opened_again(
    run: Callable[..., Any], who: dict[str, Any], how: dict[str, Any], needs_root: None
) -> None:
    r = run({**who, **how})
    assert (r.returncode, r.stdout, r.stderr) == (0, *SAID)


@anyone
def test_a_started_containers_streams_are_opened_again(who: dict[str, Any], needs_root: None) -> None:
    pipes = {"stdin": pyminicon.PIPE, "stdout": pyminicon.PIPE, "stderr": pyminicon.PIPE}
    with pyminicon.start(["sh", "-c", SCRIPT], **pipes, **who) as c:
        assert c.communicate(b"given") == SAID


@anyone
def test_a_terminal_is_opened_again(who: dict[str, Any], needs_root: None) -> None:
    script = "echo one >/dev/stdout; echo two >/dev/stderr; read line </dev/stdin; echo got $line >/dev/tty"
    with pyminicon.start(["sh", "-c", script], tty=True, **who) as c:
        assert c.terminal is not None
        c.terminal.write(b"typed\n")
        said = b""
        while piece := c.terminal.read():
            said += piece
        assert {b"one", b"two", b"got typed"} <= set(said.split(b"\r\n")) and c.wait() == 0


def test_who_the_program_becomes_opens_them_as_well(needs_root: None) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    script = f"setpriv --reuid={nobody} --clear-groups sh -c '{SCRIPT}'"
    r = pyminicon.run(["sh", "-c", script], input=b"given", capture_output=True)
    assert (r.stdout, r.stderr) == SAID


def test_a_pipe_that_is_inherited_or_given_is_opened_again(needs_root: None) -> None:
    code = f"import pyminicon; pyminicon.run(['sh', '-c', {SCRIPT!r}], user='1000')"
    r = subprocess.run(
        [sys.executable, "-c", code],
        input=b"given",
        capture_output=True,
        check=True,
        env=environment(),
        cwd="/",
    )
    assert (r.stdout, r.stderr) == SAID
    readable, writable = os.pipe()
    pyminicon.run(["sh", "-c", "echo x >/dev/stdout"], user="1000", stdout=writable)
    os.close(writable)
    with open(readable, "rb") as pipe:
        assert pipe.read() == b"x\n"


def test_what_has_a_name_keeps_its_mode(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    with open(tmp_path / "file", "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        pyminicon.run(["sh", "-c", "echo x; echo y >&2"], stdout=file, stderr=fifo)
    os.close(fifo)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("fifo", "file")] == [0o600] * 2


def test_an_ordinary_users_streams_are_opened_again(as_user: Callable[..., Any]) -> None:
    done = as_user(f"""
import pyminicon
for who in ({{}}, {{"user": "1000"}}, {{"userns": "private"}}, {{"userns": "private", "user": "1000"}}):
    r = pyminicon.run(["sh", "-c", {SCRIPT!r}], input=b"given", capture_output=True, **who)
    with pyminicon.Template(stock=1, **who) as t:
        s = t.run(["sh", "-c", {SCRIPT!r}], input=b"given", capture_output=True)
    with pyminicon.start(["sh", "-c", "echo tty >/dev/stdout"], tty=True, **who) as c:
        print(who, (r.stdout, r.stderr), (s.stdout, s.stderr), c.terminal.read())
""")
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all(line.endswith(f"{SAID} {SAID} b'tty\\r\\n'") for line in lines), (
        done.stdout + done.stderr
    )


COMMAND = ["-m", "pyminicon", "run", "-i"]


@pytest.mark.parametrize("words", [[], ["-u", "1000"], ["--userns", "private"], ["--init", "-u", "1000"]])
def test_the_command_line_passes_no_socket_in(words: list[str], needs_root: None) -> None:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, *COMMAND, *words, "host", "sh", "-c", SCRIPT]
    with ours, theirs:
        command = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), cwd="/"
        )
        theirs.close()
        ours.sendall(b"given")
        ours.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as all_of_it:
            assert all_of_it.read() == b"givenerr\n"
        assert command.wait(30) == 0


def test_another_users_pipe_is_relayed_by_the_command_line(tmp_path: Path, needs_root: None) -> None:
    from tests.support import ordinary

    (tmp_path / "hold").mkdir()
    for above in tmp_path.parents[:3]:
        above.chmod(above.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    argv = ordinary.command([sys.executable, *COMMAND, "host", "sh", "-c", SCRIPT], tmp_path / "hold")
    env = {**environment(), "HOME": "/tmp", "XDG_DATA_HOME": str(tmp_path)}
    r = subprocess.run(argv, input=b"given", capture_output=True, env=env, cwd="/", check=False)
    assert (r.stdout, r.stderr) == SAID
