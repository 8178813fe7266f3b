"""The root file system that every contestant starts: the payload and the directories to mount on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import build

PROGRAM = "/payload"


def minimal() -> Path:
    """Make (once) the minimal root under build/bench and return its path."""
    program = build.payload()
    root = build.CACHE / f"root-{program.name.rsplit('-', 1)[1]}"
    if root.exists():
        return root
    fresh = root.with_name(f".{root.name}.{os.getpid()}")
    for name in ("proc", "sys", "dev", "etc", "tmp", "root", "run", "var", "usr"):
        (fresh / name).mkdir(parents=True)
    (fresh / "tmp").chmod(0o1777)
    (fresh / "etc" / "hosts").write_text("127.0.0.1\tlocalhost\n")
    (fresh / "etc" / "hostname").write_text("box\n")
    (fresh / "etc" / "passwd").write_text("root:x:0:0:root:/root:/payload\n")
    (fresh / "etc" / "group").write_text("root:x:0:\n")
    shutil.copy(program, fresh / "payload")
    try:
        os.rename(fresh, root)
    except OSError:  # somebody else was faster
        shutil.rmtree(fresh)
    return root
