"""`run -it`, typed into by pexpect: a terminal of the container's own, and the caller's given back."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.conftest import COMMAND, Cli, environment
from tests.support import ordinary

Spawn = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """``spawn("run", ...)``: the command at a terminal of 24 rows of 80 columns."""
    made: list[pexpect.spawn[str]] = []

    def begin(*words: str, **options: Any) -> pexpect.spawn[str]:
        options.setdefault("dimensions", (24, 80))
        one: pexpect.spawn[str] = pexpect.spawn(
            COMMAND[0], [*COMMAND[1:], *words], env=environment(), encoding="utf-8", timeout=60, **options
        )  # type: ignore[assignment]
        one.delaybeforesend = None
        made.append(one)
        return one

    yield begin
    for one in made:
        one.close(force=True)


def _shell(spawn: Spawn, *options: str) -> pexpect.spawn[str]:
    """An interactive bash with the prompt "$ "."""
    words = ("-e", "PS1=ready$ ", "host", "bash", "--norc", "--noediting", "-i")
    shell = spawn("run", "-it", *options, *words)
    shell.expect_exact("ready$ ")
    return shell


def _ask(shell: pexpect.spawn[str], line: str) -> str:
    shell.sendline(line)
    shell.expect_exact("\r\n")
    shell.expect_exact("ready$ ")
    return str(shell.before).strip()


def _status(one: pexpect.spawn[str]) -> int:
    one.expect(pexpect.EOF)
    one.wait()
    return int(one.exitstatus) if one.exitstatus is not None else -int(one.signalstatus or 0)


def test_the_terminal_inside_is_one_of_its_own(spawn: Spawn) -> None:
    shell = _shell(spawn)
    assert _ask(shell, "tty") == "/dev/console"
    assert _ask(shell, "test -t 0 && test -t 1 && test -t 2 && echo all") == "all"
    outside = os.stat(f"/proc/{shell.pid}/fd/0").st_rdev
    inside = _ask(shell, "stat -L -c %t:%T /proc/self/fd/0").split(":")
    assert os.makedev(int(inside[0], 16), int(inside[1], 16)) != outside
    assert _ask(shell, "ls /dev/pts") == "ptmx", "nor any other terminal of this machine"
    shell.sendline("exit 5")
    assert _status(shell) == 5


def test_an_ordinary_user_inside_owns_his_terminal(spawn: Spawn) -> None:
    shell = _shell(spawn, "-u", "4321")
    assert _ask(shell, "stat -c %u /dev/console; echo x >/dev/console; echo y >/dev/tty") == "4321\r\nx\r\ny"


def test_the_windows_size_is_known_and_followed(spawn: Spawn) -> None:
    shell = _shell(spawn)
    assert _ask(shell, "stty size") == "24 80"
    shell.sendline("trap 'stty size; trap - WINCH' WINCH; echo set")
    shell.expect_exact("\nset\r\n")
    shell.setwinsize(50, 132)
    for _ in range(50):  # bash runs traps between commands
        if _ask(shell, "stty size").endswith("50 132"):
            break
        time.sleep(0.05)
    assert _ask(shell, "stty size") == "50 132"


def test_ctrl_c_goes_to_the_program_inside(spawn: Spawn) -> None:
    shell = _shell(spawn)
    shell.sendline("sleep 60; echo status $?")
    time.sleep(0.3)
    shell.sendintr()
    shell.expect_exact("ready$ ")
    assert _ask(shell, "echo status $?") == "status 130"


def test_job_control_works(spawn: Spawn) -> None:
    shell = _shell(spawn)
    shell.sendline("sh -c 'echo on; exec sleep 60'")
    shell.expect_exact("\non")
    shell.send("\x1a")  # Ctrl-Z
    shell.expect_exact("Stopped")
    shell.expect_exact("ready$ ")
    assert "Stopped" in _ask(shell, "jobs")
    _ask(shell, "bg")
    assert "Running" in _ask(shell, "jobs")
    shell.sendline("fg")
    shell.expect_exact("exec sleep 60")
    time.sleep(0.3)
    shell.sendintr()
    shell.expect_exact("ready$ ")
    assert _ask(shell, "jobs") == ""
    assert "no job control" not in str(shell.before)


def test_ctrl_d_ends_the_shell(spawn: Spawn) -> None:
    shell = _shell(spawn)
    shell.sendeof()
    assert _status(shell) == 0


def test_much_output_comes_through_whole_and_in_order(spawn: Spawn) -> None:
    one = spawn("run", "-it", "host", "seq", "200000")
    text = one.read()
    assert text == "".join(f"{number}\r\n" for number in range(1, 200001))


def test_much_that_is_typed_goes_in_while_the_program_doesnt_read(spawn: Spawn) -> None:
    """The container's terminal takes 4 KiB; we hold the rest, and what it writes is still shown."""
    line = "stty raw -echo; echo ready; sleep 0.5; head -c 100000 | cksum"
    one = spawn("run", "-it", "host", "sh", "-c", line)
    one.expect_exact("ready")
    data = "0123456789" * 10000
    one.send(data)
    import subprocess

    wanted = (
        subprocess.run(["cksum"], input=data.encode(), capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )
    one.expect_exact(wanted)
    assert _status(one) == 0


def test_with_t_alone_nothing_that_is_typed_goes_in(spawn: Spawn) -> None:
    one = spawn("run", "-t", "host", "sh", "-c", "test -t 1 && echo terminal; sleep 0.3")
    one.send("typed\n")
    assert "terminal\r\r\n" in one.read()


def test_it_without_a_terminal_is_refused(cli: Cli) -> None:
    r = cli("run", "-it", "host", "true")
    assert (r.returncode, r.stderr) == (125, "pyminicon: --tty: the input device is not a TTY\n")


def test_without_t_a_program_never_holds_the_callers_terminal(spawn: Spawn) -> None:
    """Whoever holds it can read what is typed there, and type (TIOCSTI)."""
    one = spawn(
        "run",
        "-i",
        "host",
        "sh",
        "-c",
        "for fd in 0 1 2; do test -t $fd && echo terminal $fd; done; echo end",
    )
    assert one.read() == "end\r\n"
    one = spawn("run", "host", "sh", "-c", ": </dev/tty && echo opened; echo end")
    assert "opened" not in one.read()


def test_without_t_lines_that_are_typed_go_in(spawn: Spawn) -> None:
    one = spawn("run", "-i", "host", "cat")
    one.sendline("a line")
    one.expect_exact("a line\r\na line\r\n")  # its echo, and cat's
    one.sendeof()
    assert _status(one) == 0


def test_without_t_ctrl_c_ends_the_program(spawn: Spawn) -> None:
    one = spawn("run", "host", "sh", "-c", "echo ready; exec sleep 60")
    one.expect_exact("ready")
    time.sleep(0.2)
    one.sendintr()
    assert _status(one) == 130


# ---- the caller's terminal is given back ----------------------------------------------------------------


class _AtATerminal:
    """The command as a child on a terminal that we look at from outside."""

    def __init__(self, *words: str) -> None:
        self.outer, self.inner = os.openpty()
        self.before = termios.tcgetattr(self.inner)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                import fcntl

                fcntl.ioctl(self.inner, termios.TIOCSCTTY, 0)
                for fd in (0, 1, 2):
                    os.dup2(self.inner, fd)
                os.execve(sys.executable, [*COMMAND, *words], environment())
            finally:
                os._exit(99)

    def until(self, text: bytes) -> None:
        seen = b""
        while text not in seen:
            seen += os.read(self.outer, 1000)

    def raw(self) -> bool:
        return not termios.tcgetattr(self.inner)[3] & termios.ICANON

    def close(self) -> int:
        status = os.waitpid(self.pid, 0)[1]
        deadline = time.monotonic() + 20
        while self.raw() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert termios.tcgetattr(self.inner) == self.before
        os.close(self.outer)
        os.close(self.inner)
        return os.waitstatus_to_exitcode(status)


def test_the_terminal_is_raw_meanwhile_and_given_back_at_the_end() -> None:
    at = _AtATerminal("run", "-it", "host", "sh", "-c", "echo ready; read x; exit 3")
    at.until(b"ready")
    assert at.raw()
    os.write(at.outer, b"\r")
    assert at.close() == 3


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV]
)
def test_the_terminal_is_given_back_when_the_command_is_killed(number: int) -> None:
    at = _AtATerminal("run", "-it", "host", "sh", "-c", "echo ready; exec sleep 60")
    at.until(b"ready")
    time.sleep(0.2)
    assert at.raw()
    os.kill(at.pid, number)
    assert at.close() in (128 + number, -number)


@pytest.mark.parametrize(
    "words", [["host", "no-such-program"], ["-m", "1", "host", "true"], ["./no-such-image", "true"]]
)
def test_the_terminal_is_given_back_when_the_start_fails(words: list[str]) -> None:
    assert _AtATerminal("run", "-it", *words).close() in (125, 127)


def test_a_stopped_command_gives_the_terminal_to_the_shell_and_takes_it_again() -> None:
    at = _AtATerminal("run", "-it", "host", "sh", "-c", "echo ready; read x; exit 3")
    at.until(b"ready")
    assert at.raw()
    os.kill(at.pid, signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(at.pid, os.WUNTRACED)[1])
    assert not at.raw()
    os.kill(at.pid, signal.SIGCONT)
    deadline = time.monotonic() + 20
    while not at.raw() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert at.raw()
    os.write(at.outer, b"\r")
    assert at.close() == 3


@pytest.mark.parametrize("options", [["-it"], ["-i"], []])
def test_a_terminal_that_goes_away_takes_the_container_with_it(options: list[str]) -> None:
    at = _AtATerminal("run", *options, "host", "sh", "-c", "echo ready; exec sleep 60")
    at.until(b"ready")
    time.sleep(0.2)
    os.close(at.inner)
    os.close(at.outer)
    assert os.waitstatus_to_exitcode(os.waitpid(at.pid, 0)[1]) == 128 + signal.SIGHUP


def test_an_ordinary_user_can_work_in_one(tmp_path: Path, needs_root: None) -> None:
    hold = tmp_path / "hold"
    hold.mkdir()
    argv = ordinary.command(
        [*COMMAND, "run", "-it", "-e", "PS1=ready$ ", "host", "bash", "--norc", "--noediting"], hold
    )
    one: pexpect.spawn[str] = pexpect.spawn(
        argv[0], argv[1:], env=environment(HOME="/"), encoding="utf-8", timeout=60
    )  # type: ignore[assignment]
    try:
        one.expect_exact("ready$ ")
        assert _ask(one, "tty") == "/dev/console"
        one.sendline("sh -c 'echo on; exec sleep 60'")
        one.expect_exact("\non")
        one.send("\x1a")
        one.expect_exact("Stopped")
        one.expect_exact("ready$ ")
        _ask(one, "kill -9 %1; wait")
        one.sendline("exit 4")
        assert _status(one) == 4
    finally:
        one.close(force=True)
