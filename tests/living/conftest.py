"""Containers to live in, and words for what is inside."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

import pyminicon
from tests.support.waiting import soon


@pytest.fixture
def home() -> Iterator[pyminicon.Container[bytes]]:
    with pyminicon.start() as c:
        yield c
    del c
    gc.collect()  # what pytest.raises has seen holds the frames that hold it


def names(c: Any) -> list[str]:
    """The names of the processes inside, without init, its workers, and who looks."""
    script = 'for d in /proc/[0-9]*; do read -r name < $d/comm && echo "$name ${d#/proc/}"; done 2>/dev/null; echo me $$'
    lines = c.run(["sh", "-c", script], capture_output=True, text=True, timeout=30).stdout.split("\n")
    rows = [line.rsplit(" ", 1) for line in lines if line]
    me = next(pid for name, pid in rows if name == "me")
    return sorted(
        name for name, pid in rows if pid != me and name not in ("me", "pyminicon-init", "pyminicon-work")
    )


def stops_while_frozen(c: pyminicon.Container[Any], p: pyminicon.Process[Any]) -> None:
    """``p`` writes a line after the other, in nonblocking pieces from now on, but not while ``c`` is frozen."""
    assert p.stdout is not None and p.stdout.readline() == b"x\n"
    c.freeze()
    os.set_blocking(p.stdout.fileno(), False)
    while p.stdout.read(65536):
        pass
    assert not soon(lambda: bool(p.stdout and p.stdout.read(1)), 0.3)
    c.thaw()
    assert soon(lambda: bool(p.stdout and p.stdout.read(1)))


_ODD_FILES = """
import os, socket
os.mkfifo("/tmp/place/fifo")
socket.socket(socket.AF_UNIX).bind("/tmp/place/socket")
"""


@pytest.fixture(scope="module")
def living() -> Iterator[Any]:
    """One for all tests of a module, which leave it as it was."""
    with pyminicon.start(image="host") as box:
        yield box


@pytest.fixture
def other() -> Iterator[Any]:
    """Another one."""
    with pyminicon.start(image="host", read_only=True) as box:
        yield box


@pytest.fixture
def at_tmp() -> Iterator[Any]:
    """One whose working directory is /tmp."""
    with pyminicon.start(image="host", cwd="/tmp") as box:
        yield box


@pytest.fixture
def odd_files(living: Any) -> Callable[[], None]:
    """Makes a pipe and a socket in /tmp/place."""
    return lambda: living.run(["python3", "-c", _ODD_FILES], check=True)


@pytest.fixture
def with_volume() -> Callable[[str], AbstractContextManager[Any]]:
    """``with with_volume(source) as box``: it has that as /volume."""

    @contextlib.contextmanager
    def made(source: str) -> Iterator[Any]:
        with pyminicon.start(image="host", volumes=[f"{source}:/volume"]) as box:
            yield box

    return made
