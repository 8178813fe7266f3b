"""The same without root: the container's user namespace is the caller's own, and so is its network."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

SOCKETS = """
import os, pyminicon, socket
code = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen(); s.accept()[0].sendall(b'unix')"
for options in ({}, {"init": True}, {"read_only": True}):
    with pyminicon.start(["sleep", "100"], **options) as c:
        with c.listen(80) as listener, c.connect(80, timeout=30) as s:
            listener.accept()[0].sendall(b"hi")
            assert s.recv(9) == b"hi"
        try:
            c.connect(80)
            raise SystemExit("nobody listens")
        except ConnectionRefusedError:
            pass
with pyminicon.start() as c, c.start(["python3", "-c", code]):
    while True:
        try:
            with c.connect("/tmp/s", timeout=30) as s:
                assert s.recv(9) == b"unix"
            break
        except (FileNotFoundError, ConnectionRefusedError):
            pass
with pyminicon.start(network="host") as c, c.listen(0) as listener, c.connect(listener.getsockname()[1]):
    listener.accept()
print("all of it")
"""


def test_sockets_need_no_root(as_user: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become an ordinary user")
    ran = as_user(SOCKETS, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-2000:]
