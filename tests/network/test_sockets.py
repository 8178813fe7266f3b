"""Sockets out of a container: connected and listening ones, made in its network and held by the caller."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from tests.network.conftest import SERVER

PYTHON = sys.executable
KINDS: list[dict[str, Any]] = [
    {},
    {"init": True},
    {"user": "1000"},
    {"userns": "private"},
    {"read_only": True},
]


def turned(s: socket.socket, data: bytes) -> bytes:
    s.settimeout(30)
    with s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := s.recv(65536):
            answer += piece
    return answer


@contextlib.contextmanager
def server(
    where: str = "8000", host: str = "127.0.0.1", **options: Any
) -> Iterator[pyminicon.Container[bytes]]:
    if "user" in options and os.geteuid() != 0:
        pytest.skip("needs root: another user inside")
    with pyminicon.start(["python3", "-c", SERVER, where, host], image="host", **options) as c:
        yield c


@pytest.mark.parametrize("options", KINDS, ids=repr)
def test_a_port_inside_is_reached_in_every_kind_of_container(options: dict[str, Any]) -> None:
    with server(**options) as c:
        c.wait_port(8000, 60)
        assert turned(c.connect(8000), b"hello") == b"olleh"
        assert turned(c.connect(8000, timeout=30), b"x" * 100000) == b"x" * 100000
        with pytest.raises(ConnectionRefusedError):
            c.connect(8001)
        for endless in (30 * 86400, 2.0**63, float("inf"), 10**400):
            c.wait_port(8000, endless)
            assert turned(c.connect(8000, timeout=endless), b"x") == b"x"
        with pytest.raises(ConnectionRefusedError):
            c.connect(8000, "::1")


def test_ipv6_is_reached() -> None:
    with server("8080", "::1") as c:
        c.wait_port(8080, 60)
        assert turned(c.connect(8080, "::1"), b"six") == b"xis"


def test_a_socket_file_is_found_inside_and_not_here(tmp_path: Any) -> None:
    with server("/run/there.sock") as c:
        deadline = time.monotonic() + 60
        while True:
            try:
                s = c.connect("/run/there.sock", timeout=30)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert turned(s, b"unix") == b"xinu"
        assert not os.path.exists("/run/there.sock")
        here = tmp_path / "here.sock"
        with socket.socket(socket.AF_UNIX) as mine:
            mine.bind(str(here))
            mine.listen()
            with pytest.raises(FileNotFoundError):
                c.connect(str(here))


def test_a_link_inside_leads_nowhere_outside() -> None:
    with pyminicon.start(image="host") as c, socket.socket(socket.AF_UNIX) as mine:
        name = f"/var/tmp/pyminicon-{os.getpid()}.sock"
        mine.bind(name)
        try:
            mine.listen()
            c.path("/tmp/link").symlink_to(f"/proc/1/root{name}")
            c.path("/tmp/up").symlink_to(f"../../../../../..{name}")
            for link in ("/tmp/link", "/tmp/up"):
                with pytest.raises(OSError):
                    c.connect(link, timeout=10)
        finally:
            os.unlink(name)


def test_who_listens_inside_accepts_here() -> None:
    with pyminicon.start(image="host") as c:
        with c.listen(9000) as listener:
            assert listener.getsockname() == ("127.0.0.1", 9000)
            script = (
                "import socket; s = socket.create_connection(('localhost', 9000)); print(s.recv(9).decode())"
            )
            p = c.start(["python3", "-c", script], stdout=pyminicon.PIPE, text=True)
            listener.settimeout(60)
            conn, _ = listener.accept()
            with conn:
                conn.sendall(b"from here")
            assert p.communicate(timeout=60)[0] == "from here\n"
            with pytest.raises(OSError):
                c.listen(9000)
        with c.listen(0) as other, c.listen(0, "::1") as six:
            assert other.getsockname()[1] > 0
            assert six.getsockname()[1] > 0


def test_many_containers_listen_at_one_port() -> None:
    with contextlib.ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        boxes = [stack.enter_context(pyminicon.start(image="host")) for _ in range(5)]
        listeners = [stack.enter_context(c.listen(port)) for c in boxes]
        for number, c in enumerate(boxes):
            with c.connect(port) as s:
                conn, _ = listeners[number].accept()
                with conn:
                    conn.sendall(b"%d" % number)
                    assert s.recv(9) == b"%d" % number
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            pytest.fail("nobody listens there outside")


def test_a_port_that_nobody_opens_is_waited_for_and_no_longer() -> None:
    with pyminicon.start(image="host") as c:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match="port 8000"):
            c.wait_port(8000, 0.2)
        assert time.monotonic() - begun >= 0.2
        later = threading.Timer(0.2, lambda: kept.append(c.listen(8000)))
        kept: list[socket.socket] = []
        later.start()
        c.wait_port(8000, 60)
        later.join()
        kept[0].settimeout(0)
        with pytest.raises(BlockingIOError):
            kept[0].accept()  # who waited has taken no connection
        kept[0].close()


def test_a_full_queue_ends_with_the_timeout() -> None:
    script = "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('/run/s'); s.listen(0); print(flush=True); time.sleep(999)"
    with pyminicon.start(["python3", "-c", script], image="host", stdout=pyminicon.PIPE) as c:
        assert c.stdout is not None
        c.stdout.readline()
        with contextlib.ExitStack() as stack, pytest.raises(TimeoutError):
            for _ in range(5):
                stack.enter_context(c.connect("/run/s", timeout=0.3))


def test_after_the_end_there_is_nothing_to_connect_to() -> None:
    with pyminicon.start(image="host") as c:
        listener = c.listen(8000)
    for call in (lambda: c.connect(8000), lambda: c.listen(8000), lambda: c.wait_port(8000, 1)):
        with pytest.raises(pyminicon.ContainerEnded):
            call()
    listener.close()
    with pyminicon.start(["true"], image="host") as c:
        os.waitid(os.P_PIDFD, c.pidfd, os.WEXITED | os.WNOWAIT)
        with pytest.raises(pyminicon.ContainerEnded):
            c.connect(8000)


def test_what_makes_no_sense_is_said() -> None:
    with pyminicon.start(image="host") as c:
        for where in (0, -1, 65536, True, 1.5, "relative", "", "@abstract", "\0abstract"):
            with pytest.raises(pyminicon.SpecError):
                c.connect(where)  # type: ignore[arg-type]
        with pytest.raises(pyminicon.SpecError, match="host"):
            c.connect(80, "example.com")
        with pytest.raises(OSError, match="too long"):
            c.connect("/" + "x" * 200)
    with (
        pyminicon.start(image="host", network="off") as c,
        pytest.raises(pyminicon.SpecError, match="network"),
    ):
        c.connect(8000)


def test_no_descriptor_and_no_process_is_left() -> None:
    gc.collect()  # what earlier tests have left to it would go meanwhile
    with pyminicon.start(image="host") as c:
        c.listen(1000 + 8000).close()
        before = sorted(os.listdir("/proc/self/fd"))
        children = _children()
        for _ in range(100):
            with pytest.raises(ConnectionRefusedError):
                c.connect(8000)
            with c.listen(8000), c.connect(8000):
                pass
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert _children() == children


def _children() -> str:
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return file.read()


def test_threads_connect_at_once() -> None:
    with pyminicon.start(image="host") as c, c.listen(8000) as listener:
        failed: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(20):
                    c.connect(8000).close()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert listener.accept()


def test_a_loop_has_them_without_blocking() -> None:
    async def talk() -> None:
        async with await aio.start(image="host") as c:
            listener = await c.listen(8000)

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write((await reader.readline())[::-1])
                await writer.drain()
                writer.close()

            assert not listener.getblocking()
            serving = await asyncio.start_server(answer, sock=listener)
            async with serving:
                await c.wait_port(8000, 30)
                for timeout in (None, 30):
                    with await c.connect(8000, timeout=timeout) as made:
                        assert not made.getblocking()
                reader, writer = await asyncio.open_connection(sock=await c.connect(8000, timeout=30))
                writer.write(b"hello\n")
                assert await reader.read() == b"\nolleh"
                writer.close()
            with pytest.raises(ConnectionRefusedError):
                await c.connect(8000)
            with pytest.raises(FileNotFoundError):
                await c.connect("/run/none.sock", timeout=30)
            with pytest.raises(TimeoutError):
                await c.wait_port(8000, 0.1)
        with pytest.raises(pyminicon.ContainerEnded):
            await c.connect(8000)

    asyncio.run(talk())


def test_an_own_user_namespace_changes_nothing_of_the_caller() -> None:
    def dumpable() -> int:
        import ctypes

        return int(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))

    before = dumpable(), os.getresuid(), os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/net")
    with pyminicon.start(image="host", userns="private") as c:
        c.listen(80).close()
        with pytest.raises(OSError):
            c.connect("/run/none")
    after = dumpable(), os.getresuid(), os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/net")
    assert after == before
