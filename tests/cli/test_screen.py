"""Full-screen programs inside draw right: tmux outside holds the screen and is asked what is on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, environment

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Screen:
    """A detached tmux of 80 columns and 24 rows that runs one command."""

    def __init__(self, place: Path) -> None:
        self.socket = place / "socket"

    def tmux(self, *words: str) -> str:
        argv = ["tmux", "-u", "-f", "/dev/null", "-S", str(self.socket), *words]
        return subprocess.run(
            argv, capture_output=True, text=True, env=environment(TERM="xterm"), check=True
        ).stdout

    def begin(self, *words: str) -> None:
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", " ".join([*COMMAND, *words]) + "; sleep 60")

    def keys(self, *words: str) -> None:
        self.tmux("send-keys", *words)

    def rows(self) -> list[str]:
        return self.tmux("capture-pane", "-p").split("\n")

    def until(self, text: str) -> list[str]:
        deadline = time.monotonic() + 60
        while text not in "\n".join(self.rows()):
            assert time.monotonic() < deadline, "\n".join(self.rows())
            time.sleep(0.05)
        return self.rows()

    def until_not(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text in "\n".join(self.rows()):
            assert time.monotonic() < deadline, "\n".join(self.rows())
            time.sleep(0.05)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    one = Screen(tmp_path)
    yield one
    if one.socket.exists():
        one.tmux("kill-server")


@pytest.mark.skipif(
    not os.path.exists("/usr/bin/vim") and not os.path.exists("/usr/bin/vi"), reason="needs vim"
)
def test_vim_draws_and_follows_the_windows_size(screen: Screen) -> None:
    screen.begin("run", "-it", "host", "vi", "-u", "NONE", "/tmp/text")
    rows = screen.until("/tmp/text")
    assert [row for row in rows[1:22] if row != "~"] == []
    screen.keys("i", "first line", "Enter", "second line", "Escape")
    rows = screen.until("second line")
    assert rows[:2] == ["first line", "second line"]
    screen.tmux("resize-window", "-x", "60", "-y", "12")
    deadline = time.monotonic() + 60
    while screen.rows()[2:10] != ["~"] * 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert screen.rows()[:10] == ["first line", "second line", *["~"] * 8]
    screen.keys(":wq", "Enter")
    screen.until_not("~")


def test_tmux_inside_draws_its_own_windows(screen: Screen) -> None:
    screen.begin(
        "run",
        "-it",
        "-e",
        "PS1=inside$",
        "-e",
        "LC_ALL=C.UTF-8",
        "host",
        "tmux",
        "-f",
        "/dev/null",
        "new-session",
        "bash",
        "--norc",
    )
    screen.until("inside$")
    rows = screen.until("[0] 0:bash")  # tmux names the window after its program a moment later
    assert rows[23].startswith("[0] 0:bash")
    screen.keys("C-b", '"')  # a second pane below
    rows = screen.until("────")
    assert sum(row.startswith("─" * 40) for row in rows) == 1
    screen.keys("echo $((6*7))", "Enter")
    assert "42" in screen.until("\n42\n")
    screen.keys("C-d")
    screen.until_not("────")
    screen.keys("C-d")
    screen.until("[exited]")
