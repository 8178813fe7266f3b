"""The same as an ordinary user, who has no place but his home."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import environment
from tests.support import ordinary

SCRIPT = """
pyminicon() { "$PYTHON" -m pyminicon "$@"; }
unset XDG_RUNTIME_DIR PYMINICON_STATE PYMINICON_STORE
if [ "$SESSION" = yes ]; then
    export XDG_RUNTIME_DIR="$HOME/session"
    mkdir -m 700 "$XDG_RUNTIME_DIR"
fi
pyminicon run -d --name web host sh -c 'mkdir /tmp/d; echo x > /tmp/d/f; echo ready; exec sleep 1000' || exit 1
pyminicon exec web true || exit 2
test "$SESSION" = no || test -d "$XDG_RUNTIME_DIR/pyminicon/containers" || exit 15
until pyminicon logs web | grep -q ready; do :; done
test "$(pyminicon exec web id -u)" = 0 || exit 3
test "$(pyminicon ps --format '{{.Names}} {{.State}}')" = "web running" || exit 4
pyminicon cp web:/tmp/d/f "$HOME/one" || exit 5
pyminicon stop web || exit 6
test "$(pyminicon wait web)" = 143 || exit 7
pyminicon cp web:/tmp/d "$HOME/two" || exit 8
test "$(cat "$HOME/one" "$HOME/two/f")" = "x
x" || exit 9
mkdir "$HOME/in"; echo y > "$HOME/in/f"
pyminicon cp "$HOME/in" web:/tmp/d || exit 12
pyminicon cp "$HOME/in" web:/usr/local || exit 13
pyminicon cp web:/usr/local/in/f - | tar -xO | grep -q y || exit 14
pyminicon rm web || exit 10
test -z "$(pyminicon ps -aq)" || exit 11
"""


@pytest.fixture
def shared_dir() -> Iterator[Path]:
    """One that nobody closes to others meanwhile."""
    with tempfile.TemporaryDirectory(prefix="pyminicon-detached-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.mark.parametrize("session", ["yes", "no"])  # "no": as with su
def test_an_ordinary_user_has_them_too(needs_root: None, shared_dir: Path, session: str) -> None:
    hold, home = shared_dir / "hold", shared_dir / "home"
    hold.mkdir()
    home.mkdir()
    os.chown(home, ordinary.UID, ordinary.UID)
    env = environment(HOME=str(home), PYTHON=sys.executable, SESSION=session)
    r = subprocess.run(
        ordinary.command(["sh", "-c", SCRIPT], hold),
        capture_output=True, text=True, check=False, cwd="/", env=env, timeout=300,
    )  # fmt: skip
    assert r.returncode == 0, (r.returncode, r.stderr)
