"""``attach``: what a container writes and what is typed for it, with a terminal and without."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND
from tests.detached.conftest import PATIENCE, Place, soon


class Screen:
    """A command at a terminal of ours."""

    def __init__(self, place: Place, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(COMMAND[0], [*COMMAND, *words], place.env)
        self.shown = b""

    def until(self, wanted: bytes) -> bytes:
        """What is shown until that has been."""
        deadline = time.monotonic() + PATIENCE
        while wanted not in self.shown:
            assert select.select([self.fd], [], [], max(deadline - time.monotonic(), 0.0))[0], self.shown
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            assert data, self.shown
            self.shown += data
        before, _, self.shown = self.shown.partition(wanted)
        return before

    def type(self, data: bytes) -> None:
        os.write(self.fd, data)

    def status(self) -> int:
        """Its exit status, once it has ended."""
        while select.select([self.fd], [], [], PATIENCE)[0]:
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:
                break
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


@pytest.fixture
def shell(place: Place) -> Iterator[Place]:
    place.ok("run", "-dit", "--name", "sh", "host", "sh")
    yield place


def test_the_keys_let_go_and_the_container_goes_on(shell: Place) -> None:
    screen = Screen(shell, "attach", "sh")
    screen.type(b"A=remembered; echo it-is-$((6*7))\n")
    screen.until(b"it-is-42")
    screen.type(b"\x10\x11")
    assert screen.status() == 0
    assert shell.ps()[0]["State"] == "running"
    again = Screen(shell, "attach", "sh")
    again.type(b"echo $A; exit 7\n")
    again.until(b"remembered\r\n")
    assert again.status() == 7
    assert shell.about("sh")["State"]["ExitCode"] == 7
    assert "it-is-42" in shell("logs", "sh").stdout


def test_half_of_the_keys_is_input_as_soon_as_that_is_known(shell: Place) -> None:
    screen = Screen(shell, "attach", "--detach-keys", "ctrl-a,x", "sh")
    screen.type(b"cat -v; echo over\n")
    screen.until(b"over\r\n")
    screen.type(b"\x01")
    screen.type(b"y\n")
    screen.until(b"^Ay\r\n")
    screen.type(b"\x01x")
    assert screen.status() == 0
    assert shell("attach", "--detach-keys", "ctrl-?", "sh").returncode == 125


def test_ctrl_c_and_the_windows_size_reach_the_program(shell: Place) -> None:
    screen = Screen(shell, "attach", "sh")
    screen.type(b"sleep 1000\n")
    soon(lambda: "sleep 1000" in shell.ok("top", "sh"))
    screen.type(b"\x03")
    soon(lambda: "sleep 1000" not in shell.ok("top", "sh"))
    os.kill(screen.pid, signal.SIGWINCH)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(screen.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))

    def size() -> bytes:
        screen.type(b"echo si''ze is $(stty size)\n")
        screen.until(b"size is ")
        return screen.until(b"\r\n")

    soon(lambda: size() == b"33 101")
    screen.type(b"\x10\x11")
    assert screen.status() == 0


def test_the_keys_leave_a_command_with_its_terminal_and_it_goes_on(shell: Place) -> None:
    screen = Screen(shell, "exec", "-it", "--detach-keys", "ctrl-a,x", "sh", "sh")
    screen.type(
        b"trap 'echo hup > /tmp/hup' HUP; echo it-is-$((6*7)); sleep 777; seq 100000; touch /tmp/over; sleep 778\n"
    )
    screen.until(b"it-is-42")
    soon(lambda: "sleep 777" in shell.ok("top", "sh"))
    screen.type(b"\x10\x11\x01x")
    assert screen.status() == 0
    shell.ok("exec", "sh", "sh", "-c", "kill $(pidof sleep)")
    soon(
        lambda: shell("exec", "sh", "test", "-e", "/tmp/over").returncode == 0
    )  # nobody reads what it writes
    assert shell("exec", "sh", "test", "-e", "/tmp/hup").returncode == 1
    assert "sleep 778" in shell.ok("top", "sh")
    assert shell("exec", "-it", "--detach-keys", "ctrl-?", "sh", "true").returncode == 125


def test_several_see_the_same(shell: Place) -> None:
    one, other = Screen(shell, "attach", "sh"), Screen(shell, "attach", "sh")
    for screen in (one, other):  # both are there
        screen.type(b"echo here-$((40+2))\n")
        screen.until(b"here-42")
    one.type(b"echo there-$((40+2))\n")
    other.until(b"there-42")
    other.type(b"exit\n")
    assert (one.status(), other.status()) == (0, 0)


def test_without_a_terminal_the_streams_are_apart_and_stdin_is_passed_on(place: Place) -> None:
    script = "while read line; do echo err >&2; echo got $line; done"
    place.ok("run", "-di", "--name", "web", "host", "sh", "-c", script)
    attached = place.begin("attach", "web", stdin=subprocess.PIPE)
    assert attached.stdin is not None and attached.stdout is not None
    attached.stdin.write("word\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "got word\n"
    place.ok("kill", "web")
    out, err = attached.communicate(timeout=60)
    assert (out, err, attached.returncode) == ("", "err\n", 137)


def test_much_is_typed_for_a_program_that_does_not_read(place: Place) -> None:
    place.ok("run", "-di", "--name", "web", "host", "sh", "-c", "sleep 1; wc -c")
    text = "x" * 3_000_000
    attached = place.begin("attach", "web", stdin=subprocess.PIPE)
    assert attached.stdin is not None
    attached.stdin.write(text)
    attached.stdin.close()
    attached.stdin = None
    soon(lambda: "web" in place.ok("ps"))
    place.ok("exec", "web", "true")  # the keeper hears others meanwhile
    attached.kill()
    attached.communicate()


def test_who_is_attached_is_not_needed(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sh", "-c", "while :; do echo y; done")
    stuck = subprocess.Popen(
        [*COMMAND, "attach", "web"], env=place.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        before = soon(lambda: _logged(place))
        soon(lambda: _logged(place) > before + 100_000)
        place.ok("exec", "web", "true")
    finally:
        stuck.kill()
        stuck.communicate()


def _logged(place: Place) -> int:
    log = Path(place.about("web")["LogPath"])
    return sum(path.stat().st_size for path in log.parent.glob("log*")) + (
        10**9 if log.with_suffix(".1").exists() else 0
    )


def test_what_has_no_program_or_no_terminal_is_told(place: Place) -> None:
    code = "import pyminicon; pyminicon.start(detach=True, name='home')"
    subprocess.run([sys.executable, "-c", code], env=place.env, check=True, timeout=60)
    r = place("attach", "home")
    assert r.returncode == 125 and "no program to attach to" in r.stderr
    place.ok("run", "-dit", "--name", "sh", "host", "sh")
    r = place("attach", "sh")
    assert r.returncode == 125 and "not a TTY" in r.stderr


def test_top_and_stats_live_on_a_terminal(place: Place) -> None:
    place.ok("run", "-d", "--name", "web", "host", "sleep", "1000")
    for verb in ("top", "stats"):
        screen = Screen(place, verb, "web")
        screen.until(b"\x1b[H\x1b[J")
        screen.until(b"\x1b[H\x1b[J")  # again and again
        screen.type(b"\x03")
        assert screen.status() == 0
    screen = Screen(place, "stats", "web")
    screen.until(b"CPU, 20 S")
    screen.until("█".encode())  # its memory, as high as the most that was seen
    screen.type(b"\x03")
    assert screen.status() == 0
    screen = Screen(place, "top", "web")
    screen.until(b"sleep 1000")
    place.ok("kill", "web")
    assert screen.status() == 0
