"""The line between a keeper and its callers."""

from __future__ import annotations

import socket

import pytest

from pyminicon.detached.line import Line


@pytest.mark.parametrize("unread", [False, True])
def test_whoever_speaks_to_one_that_has_gone_hears_the_same_in_whichever_moment_it_went(unread: bool) -> None:
    ours, theirs = socket.socketpair()
    if unread:  # the kernel resets the line then, and else it says that the pipe is broken
        ours.send(b"x")
    theirs.close()
    to = Line(ours)
    try:
        with pytest.raises(ConnectionResetError):
            to.send({"do": "hello"})
    finally:
        ours.close()


def test_what_was_said_before_it_went_is_heard() -> None:
    ours, theirs = socket.socketpair()
    Line(theirs).send({"ok": 1})
    theirs.close()
    to = Line(ours)
    assert to.receive() == {"ok": 1}
    assert to.receive() is None
    ours.close()
