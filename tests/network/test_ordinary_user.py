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

SERVED = """
import pyminicon, socket, threading, urllib.request
def answer(s, count):
    for _ in range(count):
        with s.accept()[0] as c:
            c.recv(9999)
            c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
with socket.create_server(("127.0.0.2", 0)) as s:
    port = s.getsockname()[1]
    threading.Thread(target=answer, args=(s, 2), daemon=True).start()
    code = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.2:{port}/').read())"
    for options in ({}, {"init": True}):
        r = pyminicon.run(["python3", "-c", code], egress=[f"127.0.0.2:{port}"], capture_output=True, timeout=60, **options)
        assert r.stdout == b"b'hi'\\n", r.stderr
r = pyminicon.run(["python3", "-c", code], egress=[], capture_output=True, timeout=60)
assert b"403" in r.stderr and r.refused[0].port == port, r
for options in ({}, {"init": True}):
    with pyminicon.start(["sleep", "100"], publish=["0:80"], **options) as c, c.listen(80) as inner:
        with socket.create_connection(c.ports[80]) as out:
            inner.accept()[0].sendall(b"hi")
            assert out.recv(9) == b"hi"
print("all of it")
"""


def test_ports_and_a_proxy_need_no_root(as_user: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become an ordinary user")
    ran = as_user(SERVED, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-2000:]


def test_sockets_need_no_root(as_user: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become an ordinary user")
    ran = as_user(SOCKETS, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "all of it\n"), ran.stderr[-2000:]
