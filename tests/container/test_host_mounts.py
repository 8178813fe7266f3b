"""The images ``host`` and ``python`` where something is mounted in their directories, as WSL and others have it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ordinary
from tests.support.python import environment

# Mounted in a mount namespace of its own: what lies in the directory is covered, and must stay so.
MOUNTED = """
mount -t tmpfs none /usr/share/doc && mkdir /usr/share/doc/inner && mount -t tmpfs none /usr/share/doc/inner &&
touch /usr/share/doc/inner/uncovered /usr/share/doc/uncovered || exit 99
exec "$@"
"""
SEEN = (
    "ls /usr/share/doc/inner; touch /usr/made && ls /usr/made; test -d /usr/share/man && ls -d /usr/bin/env"
)


@pytest.fixture(autouse=True)
def _for_root(needs_root: None) -> None:
    """Only root can mount; the container is an ordinary user's nevertheless."""


def beside_a_mount(words: list[str], hold: Path | None = None) -> tuple[int, str, str]:
    """As root, or with ``hold`` as the ordinary user."""
    call = [sys.executable, "-m", "pyminicon", "run", *words]
    r = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED, "sh",
         *(call if hold is None else ordinary.command(call, hold))],
        cwd="/", env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return r.returncode, r.stdout, r.stderr


@pytest.mark.parametrize("words", ["host", "python", "--init host"])
@pytest.mark.parametrize("users", ["host", "private", "0:100000:65536"])
def test_it_works_and_shows_what_is_mounted(users: str, words: str) -> None:
    r = beside_a_mount(["--userns", users, *shlex.split(words), "sh", "-c", SEEN])
    assert r == (0, "uncovered\n/usr/made\n/usr/bin/env\n", "")


def test_what_lies_under_the_mount_stays_covered() -> None:
    r = beside_a_mount(
        ["--userns", "private", "host", "sh", "-c", "umount /usr/share/doc; ls /usr/share/doc"]
    )
    assert (r[0], r[1]) == (0, "inner\nuncovered\n")


def test_a_directory_with_mounts_is_read_only_and_those_beside_are_not() -> None:
    touch = "touch /usr/share/made; touch /usr/bin/made || ls -ld /usr/bin"
    r = beside_a_mount(["--userns", "0:0:65536", "host", "sh", "-c", f"{touch}; ls /usr/bin/made"])
    assert r == (0, "/usr/bin/made\n", "touch: cannot touch '/usr/share/made': Read-only file system\n")


def test_an_ordinary_user_has_it_too(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.mkdir()
    r = beside_a_mount(["host", "sh", "-c", SEEN], hold)
    assert r == (0, "uncovered\n/usr/made\n/usr/bin/env\n", "")


def test_read_only_shows_it_as_well() -> None:
    r = beside_a_mount(["--userns", "private", "--read-only", "host", "ls", "/usr/share/doc"])
    assert r == (0, "inner\nuncovered\n", "")
