"""The outer side of a terminal, used and closed by several threads."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from pyminicon.terminal import Terminal
from tests.support.waiting import soon


def waits_for(reader: threading.Thread, number: int) -> bool:
    """Whether the thread comes to sleep in a system call on the descriptor: one that has only said that it will use it
    finds it at its end instead (/proc/pid/syscall, proc_pid_syscall(5): the call's number, then its arguments)."""
    said = Path(f"/proc/self/task/{reader.native_id}/syscall")
    return soon(lambda: said.read_text().split()[1:2] == [hex(number)])


@pytest.mark.parametrize("no_descriptor", [False, True])
def test_the_number_of_a_closed_one_isnt_given_out_while_somebody_is_inside(
    no_descriptor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what is written there would be another file's: of whoever opened one in that moment."""
    terminal = Terminal()
    inner = os.dup(terminal.inner)
    number = terminal.fileno()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(terminal.read()))
    reader.start()
    try:
        assert waits_for(reader, number)
        with monkeypatch.context() as patch:
            if no_descriptor:
                patch.setattr(os, "pipe", lambda: os.open("/no/such", 0))
            terminal.close()
        assert terminal.fileno() == -1
        others = [os.open("/dev/null", os.O_RDWR) for _ in range(50)]
        assert number not in others
        for other in others:
            os.close(other)
        for use in (
            terminal.read,
            lambda: terminal.write(b"x"),
            terminal.size,
            lambda: terminal.resize(1, 1),
        ):
            with pytest.raises(OSError, match="Bad file descriptor"):
                use()
        terminal.close()
    finally:
        with contextlib.suppress(OSError):  # gone already, where the reader came after the end
            os.write(inner, b"bye")
        os.close(inner)
        reader.join(60)
    assert not reader.is_alive()
    assert got in ([b"bye"], [b""])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_one_that_nobody_uses_is_closed_at_once_and_only_once() -> None:
    terminal = Terminal()
    number = terminal.fileno()
    terminal.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    taken = os.open("/dev/null", os.O_RDONLY)
    terminal.close()
    os.fstat(taken)
    os.close(taken)


def test_in_a_forked_child_it_is_closed_whoever_was_inside() -> None:
    terminal = Terminal()
    number = terminal.fileno()
    inner = os.dup(terminal.inner)
    reader = threading.Thread(target=terminal.read)
    reader.start()
    assert waits_for(reader, number)
    with terminal._lock:
        child = os.fork()
    if child == 0:
        threading.Timer(60, os._exit, (3,)).start()
        terminal.close()
        try:
            os.fstat(number)
        except OSError:
            os._exit(0)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.write(inner, b"bye")
    os.close(inner)
    reader.join(60)
    terminal.close()
