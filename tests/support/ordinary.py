"""Running Python as an ordinary user from tests that run as root.

Nothing of the machine is changed: no account is made. In a mount namespace of its own the user gets an
entry in private copies of /etc/passwd, group, subuid and subgid, and the directories that keep others out of
the interpreter (/root is 0700) are covered by empty ones through which only what he needs can be reached.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

NAME, UID = "pyminicon-test", 47474
SUB_START, SUB_COUNT = 0x60000000, 65536
REPO = Path(__file__).resolve().parents[2]


def _needed() -> list[str]:
    """The directories without which this interpreter and these tests don't run."""
    paths = {sys.prefix, sys.base_prefix, str(REPO), os.path.dirname(os.path.realpath(sys.executable))}
    paths |= {path for path in sys.path if os.path.isdir(path)}
    return sorted(os.path.abspath(path) for path in paths)


def _closed_ancestor(path: str) -> str | None:
    """The topmost directory above ``path`` that others can't pass."""
    parts = path.split("/")
    for depth in range(2, len(parts)):
        above = "/".join(parts[:depth])
        if not os.stat(above).st_mode & 0o001:
            return above
    return None


def _uncover(hold: str) -> list[str]:
    """Shell lines that make every needed path reachable, by binding it below a fresh parent."""
    hidden: dict[str, list[str]] = {}
    for path in _needed():
        above = _closed_ancestor(path)
        if above is None:
            continue
        known = hidden.setdefault(above, [])
        if not any(path == other or path.startswith(other + "/") for other in known):
            known.append(path)
    lines = [f"mount -t tmpfs -o mode=755 none {hold}"]
    for above, paths in hidden.items():
        for number, path in enumerate(paths):
            lines.append(f"mkdir {hold}/{number}; mount --bind {shlex.quote(path)} {hold}/{number}")
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(above)}")
        for number, path in enumerate(paths):
            lines.append(f"mkdir -p {shlex.quote(path)}; mount --move {hold}/{number} {shlex.quote(path)}")
            lines.append(f"rmdir {hold}/{number}")
    return lines


def _accounts(hold: str) -> list[str]:
    rows = {
        "passwd": f"{NAME}:x:{UID}:{UID}::/nonexistent:/bin/sh",
        "group": f"{NAME}:x:{UID}:",
        "subuid": f"{NAME}:{SUB_START}:{SUB_COUNT}",
        "subgid": f"{NAME}:{SUB_START}:{SUB_COUNT}",
    }
    lines = []
    for name, row in rows.items():
        copy = f"{hold}/{name}"
        lines.append(f"touch /etc/{name}; cat /etc/{name} > {copy}; echo {shlex.quote(row)} >> {copy}")
        lines.append(f"chmod 644 {copy}; mount --bind {copy} /etc/{name}")
    return lines


def _tun(hold: str) -> list[str]:
    """/dev/net/tun as udev makes it, anybody's: where there is no udev it is root's alone."""
    own = f"{hold}/tun"
    return [
        f"if [ -c /dev/net/tun ] && mknod -m 666 {own} c 10 200; then mount --bind {own} /dev/net/tun; fi"
    ]


def command(argv: list[str], hold: Path) -> list[str]:
    """``argv`` run as the ordinary user; ``hold`` is an empty directory to build in."""
    if os.geteuid() != 0:
        return argv
    lines = ["set -e", *_uncover(str(hold)), *_accounts(str(hold)), *_tun(str(hold))]
    words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all", *argv]
    lines.append("exec " + shlex.join(words))
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]


def python(code: str, hold: Path, home: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python ``code`` as the ordinary user, with ``home`` (his) as home and working directory."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
    options.setdefault("timeout", 120)
    return subprocess.run(
        command([sys.executable, "-c", code], hold),
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
