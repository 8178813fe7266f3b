"""Typing at the caller's terminal (CVE-2017-5226)."""

from __future__ import annotations

import os
import select
import subprocess
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, slave
    os.close(master)
    os.close(slave)


def legacy_typing() -> bool:
    """Whether TIOCSTI works without CAP_SYS_ADMIN: before Linux 6.2 always."""
    switch = Path("/proc/sys/dev/tty/legacy_tiocsti")
    return not switch.exists() or switch.read_text().strip() == "1"


def typed(slave: int) -> bytes:
    return os.read(slave, 100) if select.select([slave], [], [], 0.05)[0] else b""


@pytest.mark.parametrize("options", [{}, {"user": "1000"}, {"init": True}, {"userns": "private"}])
@pytest.mark.parametrize("seccomp", ["default", "unconfined"])
def test_a_container_cannot_type_at_the_terminal_it_writes_to(
    options: dict[str, Any], seccomp: str, attack: Path, terminal: tuple[int, int], needs_root: None
) -> None:
    """First making it the controlling one, then TIOCSTI. The filter holds, not the new session: without it whoever
    was given a terminal that is nobody's types at it, unless the sysctl forbids it. docs/security.md says so."""
    r = pyminicon.run(
        ["/attack", "terminal"],
        volumes=[f"{attack}:/attack:ro"],
        stdin=terminal[1],
        stdout=subprocess.PIPE,
        text=True,
        seccomp=seccomp,
        **options,
    )
    found = {line.split()[0]: int(line.split()[1]) for line in r.stdout.splitlines()}
    if seccomp == "default":
        assert found["push"] == found["push-high"] == found["linux"] == -1
        assert typed(terminal[1]) == b""
    else:
        assert found["own"] == 0
        assert (found["push"] == 0) is (typed(terminal[1]) != b"") is legacy_typing()


def test_it_is_no_controlling_terminal_of_the_container(terminal: tuple[int, int]) -> None:
    r = pyminicon.run(
        ["sh", "-c", "cut -d' ' -f7 /proc/self/stat; : < /dev/tty"],
        stdin=terminal[1],
        stdout=-1,
        stderr=-1,
        text=True,
    )
    assert r.stdout == "0\n" and "/dev/tty" in r.stderr


def test_the_same_typing_works_without_a_filter_and_session(
    terminal: tuple[int, int], attack: Path, needs_root: None
) -> None:
    legacy = Path("/proc/sys/dev/tty/legacy_tiocsti")
    if legacy.exists() and legacy.read_text().strip() == "0" and os.geteuid() != 0:
        pytest.skip("needs root where legacy_tiocsti is off")
    subprocess.run(["setsid", attack, "terminal"], stdin=terminal[1], stdout=subprocess.DEVNULL, check=True)
    assert typed(terminal[1]).startswith(b"x")
