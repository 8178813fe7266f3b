"""A store without room: an error that says so, and nothing half-made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .tars import file, tar

_CODE = """
import ctypes, os, sys
from pyminicon.errors import SpecError
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0                                        # CLONE_NEWNS
assert libc.mount(None, b"/", None, 0x44000, None) == 0                  # MS_REC | MS_PRIVATE
small = b"size=1m,nr_inodes=" + sys.argv[3].encode()
assert libc.mount(b"tmpfs", sys.argv[1].encode(), b"tmpfs", 0, small) == 0
from pyminicon.images import resolve
try:
    resolve(sys.argv[2])
except SpecError as error:
    print(error)
store = os.environ["PYMINICON_STORE"]
print([os.listdir(f"{store}/{name}") for name in ("tmp", "layers", "images")])
"""


@pytest.mark.parametrize("inodes", [b"30", b"5000"])
def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path, inodes: bytes) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    (tmp_path / "mount").mkdir()
    (tmp_path / "big.tar").write_bytes(tar(*(file(f"f{i}", os.urandom(40_000)) for i in range(60))))
    words = [str(tmp_path / "mount"), str(tmp_path / "big.tar"), inodes.decode()]
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *words],
        env={**os.environ, "PYMINICON_STORE": str(tmp_path / "mount/store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    message, left = done.stdout.splitlines()
    assert "No space left on device" in message
    assert left == "[[], [], []]"
