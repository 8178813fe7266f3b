"""Published ports: listeners of the caller's, each of whose connections goes to a port inside."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.network.conftest import SERVER
from tests.network.test_sockets import turned
from tests.support.placement import needs_limit

KINDS: list[dict[str, Any]] = [
    {},
    {"init": True},
    {"userns": "private"},
    {"read_only": True},
    {"memory": "256M"},
]
if os.geteuid() == 0:
    KINDS.append({"user": "1000"})


@contextlib.contextmanager
def published(
    *ports: str, host: str = "127.0.0.1", **options: Any
) -> Iterator[tuple[pyminicon.Container[bytes], tuple[str, int]]]:
    """A server at port 8000 inside, and the first way to it."""
    with pyminicon.start(
        ["python3", "-c", SERVER, "8000", host], image="host", publish=ports or ["0:8000"], **options
    ) as c:
        c.wait_port(8000, 60)
        yield c, c.ports[8000]


@pytest.mark.parametrize("options", KINDS, ids=repr)
def test_a_port_leads_inside_in_every_kind_of_container(options: dict[str, Any]) -> None:
    if "memory" in options:
        needs_limit("memory", options["memory"])
    with published(**options) as (_, way):
        assert way[0] == "127.0.0.1"
        assert turned(socket.create_connection(way), b"hello") == b"olleh"
        data = os.urandom(3_000_000)
        assert turned(socket.create_connection(way), data) == data[::-1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(way)


def test_ipv6_leads_to_ipv6_and_to_ipv4() -> None:
    for host in ("127.0.0.1", "::1"):
        with published("[::1]:0:8000", host=host) as (_, way):
            assert way[0] == "::1"
            assert turned(socket.create_connection(way), b"six") == b"xis"


def test_who_comes_too_early_is_refused_or_reset() -> None:
    with pyminicon.start(image="host", publish=["0:8000"]) as c:
        with pytest.raises(ConnectionError), socket.create_connection(c.ports[8000]) as s:
            s.settimeout(30)
            s.sendall(b"hello")
            if not s.recv(9):
                raise ConnectionResetError
        with c.listen(8000) as listener, socket.create_connection(c.ports[8000]) as s:
            listener.settimeout(30)
            conn, _ = listener.accept()
            with conn:
                conn.sendall(b"hi")
                assert s.recv(9) == b"hi"


CONTROL = """
import socket
with socket.socket() as s:
    print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode())
"""


@pytest.mark.parametrize("options", KINDS[:3], ids=repr)
def test_in_a_network_that_is_served_nothing_is_paced(options: dict[str, Any]) -> None:
    def control(**more: Any) -> str:
        ran = pyminicon.run(["python3", "-c", CONTROL], capture_output=True, text=True, **options, **more)
        return str(ran.stdout).strip()

    usual = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    assert control() == usual
    assert control(publish=["0:80"]) == control(egress=["example.com"]) == "reno"
    asked = {"net.ipv4.tcp_congestion_control": usual}
    assert control(publish=["0:80"], sysctls=asked) == usual
    assert Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip() == usual


def test_a_listener_that_is_handed_in_is_accepted_from_without_us() -> None:
    code = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    conn, _ = listener.accept()
    conn.sendall(conn.recv(99)[::-1])
"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = ["python3", "-c", code, str(listener.fileno())]
        with pyminicon.start(words, pass_fds=[listener.fileno()]) as c:
            assert turned(socket.create_connection(listener.getsockname()), b"handed") == b"dednah"
            assert c.wait(60) == 0


def test_each_half_closes_by_itself() -> None:
    with pyminicon.start(image="host", publish=["0:8000"]) as c, c.listen(8000) as listener:
        out = socket.create_connection(c.ports[8000])
        inner, _ = listener.accept()
        with out, inner:
            for s in (out, inner):
                s.settimeout(30)
            inner.sendall(b"from inside")
            inner.shutdown(socket.SHUT_WR)
            assert out.recv(99) + out.recv(99) == b"from inside"
            out.sendall(b"still heard")
            assert inner.recv(99) == b"still heard"
            out.shutdown(socket.SHUT_WR)
            assert inner.recv(99) == b""


def test_a_reset_is_a_reset_on_the_other_side() -> None:
    import struct

    with pyminicon.start(image="host", publish=["0:8000"]) as c, c.listen(8000) as listener:
        out = socket.create_connection(c.ports[8000])
        inner, _ = listener.accept()
        inner.settimeout(30)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        out.close()
        with inner, pytest.raises(ConnectionResetError):
            inner.recv(9)


def test_a_taken_address_is_said_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        port = mine.getsockname()[1]
        for call in (pyminicon.run, pyminicon.start):
            with pytest.raises(pyminicon.LaunchError) as caught:
                call(["true"], image="host", publish=["0:81", f"{port}:80"])
            assert (caught.value.stage, caught.value.errno) == ("publish", errno.EADDRINUSE)
            assert f"127.0.0.1:{port}" in str(caught.value)
        with pytest.raises(pyminicon.LaunchError, match="publish"):
            asyncio.run(aio.run(["true"], image="host", publish=[f"{port}:80"]))


@pytest.mark.parametrize(
    "ports",
    [
        ["80:80", "81:80"],
        ["x:80"],
        ["80:0"],
        ["70000:80"],
        ["80:80:80:80"],
        ["host:80:80"],
        ["::1:80:80"],
        ["80:80/udp"],
        [""],
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_a_spec_error(ports: list[str]) -> None:
    with pytest.raises(pyminicon.SpecError, match="publish"):
        pyminicon.run(["true"], publish=ports)


@pytest.mark.parametrize("network", ["off", "host"])
def test_where_there_are_no_ports_none_is_published(network: Any) -> None:
    pyminicon.run(["true"], image="host", network=network)  # its plan may be kept now
    for _ in range(2):
        with pytest.raises(pyminicon.SpecError, match="publish"):
            pyminicon.run(["true"], image="host", network=network, publish=["0:80"])
    with pytest.raises(pyminicon.SpecError, match="publish"):
        pyminicon.Template(publish=["0:80"])  # type: ignore[call-arg]


def test_a_run_publishes_until_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = "import socket; s = socket.create_server(('127.0.0.1', 80)); c = s.accept()[0]; print(c.recv(9)); c.sendall(b'hi')"
    answers: list[bytes] = []

    def ask() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as s:
                s.sendall(b"hello")
                if answer := s.recv(9):
                    answers.append(answer)
                    return
            time.sleep(0.01)

    for call in (pyminicon.run, lambda *args, **options: asyncio.run(aio.run(*args, **options))):
        asking = threading.Thread(target=ask)
        asking.start()
        r = call(
            ["python3", "-c", code], image="host", publish=[f"{port}:80"], capture_output=True, timeout=60
        )
        asking.join()
        assert (r.returncode, r.stdout, answers.pop()) == (0, b"b'hello'\n", b"hi"), r.stderr
        assert r.refused == []


def test_five_hundred_at_once() -> None:
    with published() as (_, way), contextlib.ExitStack() as stack:
        code = """
import socket, sys
way = sys.argv[1], int(sys.argv[2])
all = [socket.create_connection(way) for _ in range(500)]
for i, s in enumerate(all): s.sendall(b"%04d" % i); s.shutdown(socket.SHUT_WR)
for i, s in enumerate(all):
    s.settimeout(60)
    assert s.recv(9) == (b"%04d" % i)[::-1]
print("all")
"""
        ran = subprocess.run(
            [sys.executable, "-c", code, way[0], str(way[1])],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.stdout == "all\n", ran.stderr[-2000:]
        assert stack


def test_thousands_one_after_the_other_leave_nothing() -> None:
    with pyminicon.start(image="host", publish=["0:8000"]) as c, c.listen(8000) as listener:
        way = c.ports[8000]
        before = sorted(os.listdir("/proc/self/fd"))

        def answer() -> None:
            while True:
                conn, _ = listener.accept()
                with conn:
                    if conn.recv(9) == b"end":
                        return

        answering = threading.Thread(target=answer)
        answering.start()
        relay = _relay_fds()
        for i in range(2000):
            with socket.create_connection(way) as s:
                s.sendall(b"end" if i == 1999 else b"x")
                s.recv(1)
        answering.join()
        assert sorted(os.listdir("/proc/self/fd")) == before
        deadline = time.monotonic() + 30
        while _relay_fds() > relay + 150:  # what pipes are kept for the next
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _relay_fds() -> int:
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as file:
            if file.read() == "pyminicon-relay\n":
                return len(os.listdir(f"/proc/self/task/{task}/fd"))
    raise AssertionError("nobody serves")


def test_the_end_closes_all_and_frees_the_port() -> None:
    port = None
    for _ in range(20):
        with pyminicon.start(image="host", publish=[f"{port or 0}:8000"]) as c, c.listen(8000) as listener:
            port = c.ports[8000][1]
            s = socket.create_connection(("127.0.0.1", port))
            inner, _ = listener.accept()
            inner.close()
        with s:
            s.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert s.recv(9) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    with pyminicon.start(["sleep", "100"], image="host", publish=["0:8000"]) as c:
        way = c.ports[8000]
        c.kill()
        deadline = time.monotonic() + 30
        while True:  # nobody has looked at it
            try:
                socket.create_connection(way).close()
            except OSError:
                break
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_fork_serves_nothing_and_holds_nothing() -> None:
    with published() as (c, way):
        assert turned(socket.create_connection(way), b"1") == b"1"
        pid = os.fork()
        if pid == 0:
            try:
                with published() as (_, other):
                    assert turned(socket.create_connection(other), b"ab") == b"ba"
                time.sleep(300)
            finally:
                os._exit(1)
        try:
            c.kill()
            c.wait()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(way)
        finally:
            os.kill(pid, 9)
            assert os.waitpid(pid, 0)[1] == 9


def test_a_busy_caller_holds_nothing_up() -> None:
    with published() as (_, way):
        until = time.monotonic() + 0.5
        done: list[float] = []

        def ask() -> None:
            code = "import socket, sys, time; t = time.time(); s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); s.sendall(b'x'); s.shutdown(1); assert s.recv(9) == b'x'; print(time.time() - t)"
            ran = subprocess.run(
                [sys.executable, "-c", code, way[0], str(way[1])], capture_output=True, text=True, check=True
            )
            done.append(float(ran.stdout))

        asking = threading.Thread(target=ask)
        asking.start()
        while time.monotonic() < until or not done:
            sum(range(1000))
        asking.join()
        assert done


def test_a_loop_publishes() -> None:
    async def talk() -> None:
        async with await aio.start(image="host", publish=["0:8000"]) as c:
            listener = await c.listen(8000)
            reader, writer = await asyncio.open_connection(*c.ports[8000])
            loop = asyncio.get_running_loop()
            conn, _ = await loop.sock_accept(listener)
            await loop.sock_sendall(conn, b"hi")
            assert await reader.read(9) == b"hi"
            conn.close()
            listener.close()
            writer.close()
            way = c.ports[8000]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*way)

    asyncio.run(talk())


def test_what_cannot_start_gives_its_ports_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(3):
        for call in (pyminicon.run, pyminicon.start):
            with pytest.raises(FileNotFoundError):
                call(["/no/such/program"], image="host", publish=[f"{port}:80"])
