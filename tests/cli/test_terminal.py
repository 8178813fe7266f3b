"""A container in Python with a terminal of its own: pyminicon.start(..., tty=True)."""

from __future__ import annotations

import gc
import os
import select
import subprocess
from collections.abc import Callable, Iterator

import pytest

import pyminicon
from tests.support import leftovers as account


@pytest.fixture(autouse=True)
def descriptors(warm: None) -> Iterator[None]:
    """Every test accounts for what it leaves open in this process."""
    gc.collect()
    before = account.descriptors()
    yield
    assert account.descriptors() <= before


def _all(c: pyminicon.Container) -> bytes:
    assert c.terminal is not None
    out = b""
    while data := c.terminal.read():
        out += data
    return out


def _line(read: Callable[[], bytes]) -> bytes:
    """A whole line: the terminal may give its end a moment later."""
    got = read()
    while not got.endswith(b"\n"):
        got += read()
    return got


def test_what_is_typed_goes_in_and_what_is_written_comes_out() -> None:
    with pyminicon.start(["sh", "-c", "tty; read line; echo got $line"], tty=True) as c:
        assert c.terminal is not None
        assert (c.stdin, c.stdout, c.stderr) == (None, None, None)
        c.terminal.write(b"words\n")
        assert _all(c).replace(b"words\r\n", b"", 1) == b"/dev/console\r\ngot words\r\n"
        assert c.wait() == 0


def test_the_size_can_be_set_at_any_time() -> None:
    line = "stty size; trap 'stty size; exit' WINCH; echo set; while :; do sleep 0.02; done"
    with pyminicon.start(["sh", "-c", line], tty=True) as c:
        assert c.terminal is not None
        seen = b""
        while b"set" not in seen:
            seen += c.terminal.read()
        assert seen.startswith(b"24 80\r\n")
        c.terminal.resize(50, 132)
        assert c.terminal.size() == (50, 132)
        assert _all(c).endswith(b"50 132\r\n")


def test_it_can_be_polled() -> None:
    with pyminicon.start(["sh", "-c", "sleep 1; echo x"], tty=True) as c:
        assert select.select([c.terminal], [], [], 0)[0] == []
        assert select.select([c.terminal], [], [], 10)[0] == [c.terminal]


def test_closing_it_hangs_up() -> None:
    with pyminicon.start(
        ["sh", "-c", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.02; done"], tty=True
    ) as c:
        assert c.terminal is not None
        assert _line(c.terminal.read) == b"ready\r\n"
        c.terminal.close()
        assert c.terminal.fileno() == -1
        assert c.wait(10) == 9


def test_ctrl_c_is_a_signal_to_the_foreground() -> None:
    with pyminicon.start(
        ["sh", "-c", "trap 'exit 9' INT; echo ready; while :; do sleep 0.02; done"], tty=True
    ) as c:
        assert c.terminal is not None
        assert _line(c.terminal.read) == b"ready\r\n"
        c.terminal.write(b"\x03")
        assert c.wait(10) == 9


@pytest.mark.parametrize(
    "options", [{"init": True}, {"read_only": True}, {"userns": "private"}, {"user": "4321"}]
)
def test_it_is_the_programs_own_whatever_else_is_asked_for(
    options: dict[str, object], needs_root: None
) -> None:
    line = "tty; echo a >/dev/tty; echo b >/dev/console; [ $(cut -d' ' -f8 /proc/self/stat) -gt 0 ] && echo c"
    with pyminicon.start(["sh", "-c", line], tty=True, **options) as c:
        assert _all(c) == b"/dev/console\r\na\r\nb\r\nc\r\n"
        assert c.wait() == 0


def test_a_terminal_of_the_callers_choice_can_be_given() -> None:
    outer, inner = os.openpty()
    try:
        with pyminicon.start(
            ["sh", "-c", "tty; read x"], tty=True, stdin=inner, stdout=inner, stderr=inner
        ) as c:
            assert c.terminal is None
            assert _line(lambda: os.read(outer, 100)) == b"/dev/console\r\n"
            os.write(outer, b"\n")
            assert c.wait(10) == 0
    finally:
        os.close(outer)
        os.close(inner)


def test_what_is_no_terminal_is_refused() -> None:
    with pytest.raises(pyminicon.SpecError, match="tty: takes a terminal as stdin"):
        pyminicon.start(["true"], tty=True, stdin=pyminicon.DEVNULL)
    with pytest.raises(pyminicon.SpecError, match="tty"):
        pyminicon.run(["true"], tty=True)


def test_a_start_that_fails_leaves_no_terminal() -> None:
    with pytest.raises(pyminicon.LaunchError, match="no-such-program"):
        pyminicon.start(["no-such-program"], tty=True)


def test_an_ordinary_user_can_have_one(as_user: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = (
        "import pyminicon\n"
        "with pyminicon.start(['sh', '-c', 'tty; echo x >/dev/console; stty size'], tty=True) as c:\n"
        "    while data := c.terminal.read(): print(data.decode(), end='')\n"
        "    print(c.wait())\n"
    )
    r = as_user(code)
    assert (r.stderr, r.stdout.split()) == ("", ["/dev/console", "x", "24", "80", "0"])
