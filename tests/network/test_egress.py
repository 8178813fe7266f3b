"""What is let out by a container's proxy: names, addresses, and nothing else."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyminicon
from pyminicon import aio
from pyminicon.network import way_out
from pyminicon.network.stream import within

PROXY = ("127.0.0.1", 61080)
Answer = Callable[[socket.socket], None]


def read_head(s: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = s.recv(65536)
        if not piece:
            return data
        data += piece
    return data


class Server:
    """One of this machine's, on 127.0.0.1; keeps the heads that it was sent."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.heads: list[bytes] = []
        self.answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            with conn:
                conn.settimeout(30)
                with contextlib.suppress(OSError):
                    self.heads.append(read_head(conn))
                    conn.sendall(self.answer)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.listener.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str]]]:
    """What names lead to, one list an answer; how often each was asked for is under ``"?" + name``."""
    known: dict[str, list[str]] = {}
    really = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host not in known:
            return really(host, port, *rest, **more)
        known.setdefault(f"?{host}", []).append("once")
        found = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        family = socket.AF_INET6 if ":" in found else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (found, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield known


def said(c: pyminicon.Container[bytes], request: bytes) -> bytes:
    """The proxy's answer to a client inside."""
    with c.connect(PROXY[1], timeout=30) as s:
        s.settimeout(60)
        with contextlib.suppress(ConnectionError):
            s.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := s.recv(65536):
                answer += piece
        return answer


def asked(c: pyminicon.Container[bytes], host: str, port: int, **more: str) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in more.items())
    return said(c, f"GET http://{host}:{port}/path HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())


def test_a_program_inside_reaches_what_is_allowed_and_nothing_else(server: Server) -> None:
    code = f"""
import urllib.request, urllib.error
print(urllib.request.urlopen("http://127.0.0.2:{server.port}/a").read())
"""
    # 127.0.0.2, since NO_PROXY keeps 127.0.0.1 for the container itself
    with socket.create_server(("127.0.0.2", server.port)) as also:
        threading.Thread(target=lambda: _serve_once(also), daemon=True).start()
        r = pyminicon.run(
            ["python3", "-c", code],
            image="host",
            egress=[f"127.0.0.2:{server.port}"],
            capture_output=True,
            timeout=60,
        )
    assert (r.returncode, r.stdout) == (0, b"b'hi'\n"), r.stderr
    assert r.refused == []
    r = pyminicon.run(
        ["python3", "-c", code], image="host", egress=["127.0.0.3"], capture_output=True, timeout=60
    )
    assert b"403" in r.stderr
    assert [(one.host, one.port) for one in r.refused] == [("127.0.0.2", server.port)]
    assert f"egress='127.0.0.2:{server.port}'" in r.refused[0].reason
    assert pickle.loads(pickle.dumps(r)).refused == r.refused


def _serve_once(
    listener: socket.socket, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
) -> None:
    conn, _ = listener.accept()
    with conn:
        read_head(conn)
        conn.sendall(answer)


@pytest.mark.parametrize(
    "options", [{}, {"init": True}, {"userns": "private"}, {"read_only": True}], ids=repr
)
def test_the_environment_names_the_proxy_in_every_kind_of_container(options: dict[str, Any]) -> None:
    r = pyminicon.run(
        ["env"], image="host", egress=[], env={"NO_PROXY": "mine"}, capture_output=True, text=True, **options
    )
    found = dict(line.split("=", 1) for line in r.stdout.splitlines())
    for name in ("HTTP_PROXY", "https_proxy", "ALL_PROXY", "http_proxy", "HTTPS_PROXY", "all_proxy"):
        assert found[name] == "http://127.0.0.1:61080"
    assert (found["NO_PROXY"], found["no_proxy"]) == ("mine", "localhost,127.0.0.1,::1")
    with pyminicon.start(image="host", egress=[], **options) as c:
        assert "HTTP_PROXY=http" in c.run(["env"], capture_output=True, text=True).stdout


def test_names_are_allowed_with_their_ports(server: Server, names: dict[str, list[str]]) -> None:
    names["allowed.test"] = names["sub.other.test"] = names["other.test"] = ["127.0.0.1"]
    rules = [f"allowed.test:{server.port}", f"*.other.test:{server.port}", f"127.0.0.1:{server.port}"]
    with pyminicon.start(image="host", egress=rules) as c:
        assert asked(c, "allowed.test", server.port).endswith(b"\r\n\r\nhi")
        assert asked(c, "ALLOWED.test.", server.port).endswith(b"\r\n\r\nhi")
        assert asked(c, "sub.other.test", server.port).endswith(b"\r\n\r\nhi")
        for host, port in (
            ("other.test", server.port),
            ("allowed.test", 80),
            ("notallowed.test", server.port),
        ):
            answer = asked(c, host, port)
            assert answer.startswith(b"HTTP/1.1 403 "), answer
            assert f"no rule allows {host}:{port}".encode() in answer
        assert [one.host for one in c.refused] == ["other.test", "allowed.test", "notallowed.test"]


def test_a_name_leads_nowhere_private(names: dict[str, list[str]], server: Server) -> None:
    inner = [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "fd00::1",
    ]
    inner += [
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:10.0.0.1",
    ]
    with pyminicon.start(image="host", egress=[f"name.test:{server.port}"]) as c:
        for address in inner:
            names["name.test"] = [address]
            answer = asked(c, "name.test", server.port)
            assert answer.startswith(b"HTTP/1.1 403 "), (address, answer)
            assert b"isn't public" in answer
    assert server.heads == []


def test_this_machines_own_address_is_not_public() -> None:
    import ipaddress

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        with contextlib.suppress(OSError):
            s.connect(("192.0.2.1", 9))
        mine = s.getsockname()[0]
    if mine != "0.0.0.0":
        assert way_out._is_ours(ipaddress.ip_address(mine))
    assert not way_out._is_ours(ipaddress.ip_address("93.184.216.34"))
    assert way_out.is_public(ipaddress.ip_address("93.184.216.34"))


def test_a_name_is_looked_up_once_and_what_was_checked_is_dialled(
    names: dict[str, list[str]], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[Any] = []

    async def dial(addresses: Any, port: int) -> socket.socket:
        dialled.append([str(one) for one in addresses])
        return socket.create_connection(("127.0.0.1", server.port))

    monkeypatch.setattr(way_out, "_dialled", dial)
    names["rebind.test"] = ["93.184.216.34", "127.0.0.1"]
    with pyminicon.start(image="host", egress=["rebind.test"]) as c:
        assert asked(c, "rebind.test", 80).endswith(b"hi")
    assert dialled == [["93.184.216.34"]]
    assert names["?rebind.test"] == ["once"]


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0177.0.0.1",
        "0x7f000001",
        "127.1",
        "0x7f.1",
        "127.0.0.01",
        "[::ffff:127.0.0.1]",
        "[::1%25lo]",
        "1.2.3.4.5",
    ],
)
def test_no_spelling_of_an_address_passes_for_a_name(host: str, server: Server) -> None:
    hooks: list[tuple[str, int]] = []
    with pyminicon.start(image="host", egress=["*:*"]) as c:
        answer = asked(c, host, server.port)
    assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ")), answer
    with pyminicon.start(
        image="host", egress=lambda h, p: not hooks.append((h, p)) and not h.startswith("127.")
    ) as c:
        answer = asked(c, host, server.port)
    assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ", b"HTTP/1.1 502 ")), answer
    assert server.heads == []


BAD = {
    "user information": b"CONNECT me@127.0.0.1:%d HTTP/1.1\r\n\r\n",
    "a password in a URL": b"GET http://a:b@127.0.0.1:%d/ HTTP/1.1\r\n\r\n",
    "a space": b"CONNECT 127.0.0.1:%d x HTTP/1.1\r\n\r\n",
    "a line's end": b"CONNECT 127.0.0.1:%d\r HTTP/1.1\r\n\r\n",
    "a bare newline": b"GET http://127.0.0.1:%d/ HTTP/1.1\nHost: a\n\r\n\r\n",
    "a newline in a field": b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
    "a folded field": b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "a space before the colon": b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
    "both ends of a body": b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "a list of lengths": b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nabcde",
    "a signed length": b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nContent-Length: +5\r\n\r\nabcde",
    "an odd coding": b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunks in 1.0": b"POST http://127.0.0.1:%d/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a body of CONNECT": b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    "two hosts": b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no absolute form": b"GET /%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "https without CONNECT": b"GET https://127.0.0.1:%d/ HTTP/1.1\r\n\r\n",
    "another version": b"GET http://127.0.0.1:%d/ HTTP/2.0\r\n\r\n",
    "a backslash": b"GET http://127.0.0.1:%d\\@x/ HTTP/1.1\r\n\r\n",
    "a nul": b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nA: \0\r\n\r\n",
    "too long a head": b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nA: " + b"x" * 70000 + b"\r\n\r\n",
    "too many fields": b"GET http://127.0.0.1:%d/ HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n",
}


@pytest.fixture(scope="module")
def open_to_loopback() -> Iterator[tuple[pyminicon.Container[bytes], Server]]:
    server = Server()
    with pyminicon.start(image="host", egress=[f"127.0.0.1:{server.port}"]) as c:
        yield c, server
    server.listener.close()


@pytest.mark.parametrize("what", BAD)
def test_what_can_be_read_in_two_ways_is_refused(what: str, open_to_loopback: tuple[Any, Server]) -> None:
    c, server = open_to_loopback
    before = len(server.heads)
    request = BAD[what].replace(b"%d", b"%d" % server.port, 1)
    answer = said(c, request)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")), answer
    assert len(server.heads) == before


def test_a_second_request_on_the_connection_goes_nowhere(open_to_loopback: tuple[Any, Server]) -> None:
    c, server = open_to_loopback
    before = len(server.heads)
    one = f"GET http://127.0.0.1:{server.port}/first HTTP/1.1\r\nHost: other\r\nConnection: close, host\r\n\r\n".encode()
    answer = said(c, one + one.replace(b"first", b"second"))
    assert answer.count(b"HTTP/1.1 200") == 1
    assert len(server.heads) == before + 1
    head = server.heads[-1]
    assert b"second" not in head
    assert head.startswith(b"GET /first HTTP/1.1\r\n")
    assert head.count(b"Host: ") == 1
    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in head


def test_secrets_are_added_outside(names: dict[str, list[str]], server: Server) -> None:
    names["api.test"] = names["other.test"] = ["127.0.0.1"]
    rules = [f"*.test:{server.port}", f"127.0.0.1:{server.port}"]
    headers = {"API.test": {"Authorization": "Bearer secret"}}
    with pyminicon.start(image="host", egress=rules, egress_headers=headers) as c:
        asked(c, "api.test", server.port, authorization="mine", Connection="authorization")
        assert server.heads[-1].lower().count(b"authorization: ") == 1
        assert b"Authorization: Bearer secret\r\n" in server.heads[-1]
        asked(c, "other.test", server.port)
        assert b"secret" not in server.heads[-1]


def test_bodies_go_through_by_length_and_in_chunks() -> None:
    got: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(30)
                data = b""
                while not data.endswith((b"12345", b"0\r\n\r\n")):
                    data += conn.recv(65536)
                got.append(data)
                conn.sendall(
                    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nbody"
                )

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with pyminicon.start(image="host", egress=[f"127.0.0.1:{port}"]) as c:
            head = f"POST http://127.0.0.1:{port}/ HTTP/1.1\r\n".encode()
            for more in (
                b"Content-Length: 5\r\n\r\n12345",
                b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
            ):
                answer = said(c, head + more)
                assert answer.startswith(b"HTTP/1.1 100 Continue")
                assert answer.endswith(b"body")
                assert b"keep-alive" not in answer
    assert got[0].endswith(b"\r\n\r\n12345")
    assert got[1].endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


def test_tunnels_carry_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pyminicon.start(image="host", egress=[f"127.0.0.1:{port}"]) as c, c.connect(61080) as s:
            s.settimeout(60)
            s.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nearly" % port)
            assert read_head(s).startswith(b"HTTP/1.1 200 ")
            conn, _ = listener.accept()
            conn.settimeout(60)
            with conn:
                assert conn.recv(9) == b"early"
                conn.sendall(b"x" * 1_000_000)
                left = 1_000_000
                while left:
                    left -= len(s.recv(65536))
                s.shutdown(socket.SHUT_WR)
                assert conn.recv(9) == b""
                conn.sendall(b"last")
                assert s.recv(9) == b"last"
        with pyminicon.start(image="host", egress=[f"127.0.0.1:{port}"]) as c:
            s = c.connect(61080)
            s.settimeout(60)
            s.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port)
            read_head(s)
            conn, _ = listener.accept()
        conn.settimeout(60)
        with conn, s, contextlib.suppress(ConnectionResetError):
            assert conn.recv(9) == b""  # it has gone with the container


def test_many_tunnels_that_nobody_reads_hold_little() -> None:
    """The caller's ends are charged to the caller. Those of the first may grow as the kernel lets them."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        port = listener.getsockname()[1]
        c = stack.enter_context(pyminicon.start(image="host", egress=[f"127.0.0.1:{port}"]))
        for number in range(20):
            s = stack.enter_context(c.connect(61080))
            s.settimeout(60)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            s.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)
            assert read_head(s).startswith(b"HTTP/1.1 200 ")
            stack.enter_context(listener.accept()[0])
            if number < 16:
                continue
            s.settimeout(1)
            taken = 0
            with contextlib.suppress(TimeoutError):
                while taken < 8_000_000:
                    taken += s.send(b"x" * 65536)
            assert 65536 < taken < 3_000_000, number


def test_a_redirect_is_checked_as_any_other_request(server: Server) -> None:
    """The client follows it, here as everywhere: to what is allowed, and to nothing else."""
    forbidden = Server()
    code = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.2:%s/" % sys.argv[1], timeout=60).read())
except urllib.error.HTTPError as error:
    print(error.code, error.read())
"""
    with pyminicon.start(image="host", egress=["127.0.0.2", f"127.0.0.1:{server.port}"]) as c:
        for target in (server, forbidden):
            with socket.create_server(("127.0.0.2", 0)) as first:
                where = f"http://127.0.0.1:{target.port}/there"
                answer = f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
                serving = threading.Thread(target=lambda f=first, a=answer: _serve_once(f, a))
                serving.start()
                words = ["python3", "-c", code, str(first.getsockname()[1])]
                # urllib asks the proxy for what NO_PROXY names as well, once that is empty
                ran = c.run(
                    words, env={"NO_PROXY": "", "no_proxy": ""}, capture_output=True, text=True, timeout=90
                )
                serving.join()
            if target is server:
                assert ran.stdout == "b'hi'\n", ran
            else:
                assert ran.stdout.startswith("403 ") and f"egress='127.0.0.1:{target.port}'" in ran.stdout, (
                    ran
                )
    forbidden.listener.close()
    assert forbidden.heads == []
    assert server.heads[0].startswith(b"GET /there HTTP/1.1")


@pytest.mark.parametrize("half", ["whole", "inner half closed", "outer half closed", "before an answer"])
def test_a_dying_container_closes_what_it_had_open(half: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pyminicon.start(image="host", egress=[f"127.0.0.1:{port}"]) as c:
            inner = c.connect(PROXY[1], timeout=30)
            if half == "before an answer":
                inner.sendall(f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n".encode())
            else:
                inner.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
            outer, _ = listener.accept()
            for s in (inner, outer):
                s.settimeout(60)
            assert half == "before an answer" or b" 200 " in read_head(inner)
            if half == "inner half closed":
                inner.shutdown(socket.SHUT_WR)
                assert outer.recv(9) == b""
            elif half == "outer half closed":
                outer.shutdown(socket.SHUT_WR)
                assert inner.recv(9) == b""
            elif half == "before an answer":
                assert read_head(outer).startswith(b"GET / ")
        with inner, outer, contextlib.suppress(ConnectionError):
            if half != "inner half closed":
                assert outer.recv(9) == b""
            until = time.monotonic() + 60
            while time.monotonic() < until:  # nobody is there who would take it
                outer.sendall(b"x")
                time.sleep(0.01)
            raise AssertionError("somebody still takes it")


def socks(c: pyminicon.Container[bytes], request: bytes, hello: bytes = b"\5\1\0") -> bytes:
    return said(c, hello + request)


def test_socks_takes_names_and_addresses(names: dict[str, list[str]], server: Server) -> None:
    names["name.test"] = ["127.0.0.1"]
    port = server.port.to_bytes(2, "big")
    get = b"GET / HTTP/1.1\r\n\r\n"
    rules = [f"name.test:{server.port}", f"127.0.0.1:{server.port}"]
    with pyminicon.start(image="host", egress=rules) as c:
        for request in (
            b"\5\1\0\3\x09name.test",
            b"\5\1\0\1\x7f\0\0\1",
            b"\5\1\0\4" + b"\0" * 10 + b"\xff\xff\x7f\0\0\1",
        ):
            answer = socks(c, request + port + get)
            assert answer[:4] == b"\5\0\5\0", answer
            assert answer.endswith(b"hi")
        refusals = {
            b"\5\1\0\3\x0aother.test" + port: 2,
            b"\5\1\0\1\x7f\0\0\2" + port: 2,
            b"\5\1\0\3\x0a2130706433" + port: 2,
            b"\5\2\0\1\x7f\0\0\1" + port: 7,
            b"\5\3\0\1\x7f\0\0\1" + port: 7,
            b"\5\1\0\3\0" + port: 8,
            b"\5\1\0\3\x04\xff\xfe\0\1" + port: 8,
            b"\5\1\0\3\x05a b\r\n" + port: 8,
            b"\5\1\0\1\x7f\0\0\1\0\0": 8,
            b"\5\1\0\x09\x7f\0\0\1" + port: 8,
        }
        for request, code in refusals.items():
            answer = socks(c, request)
            assert answer[:4] == bytes((5, 0, 5, code)), (request, answer)
        assert socks(c, b"", b"\5\1\2") == b"\5\xff"
        assert socks(c, b"", b"\4\1\0\x50\x7f\0\0\1\0").startswith(b"HTTP/1.1 400")
        assert {one.host for one in c.refused} == {"other.test", "127.0.0.2", "2130706433"}


def test_a_function_decides(server: Server) -> None:
    calls: list[tuple[str, int]] = []

    def hook(host: str, port: int) -> bool:
        calls.append((host, port))
        if host == "127.0.0.9":
            raise KeyError(host)
        return host == "127.0.0.1"

    with pyminicon.start(image="host", egress=hook) as c:
        assert asked(c, "127.0.0.1", server.port).endswith(b"hi")
        assert asked(c, "127.0.0.2", server.port).startswith(b"HTTP/1.1 403")
        assert b"raised KeyError" in asked(c, "127.0.0.9", server.port)
    assert calls[0] == ("127.0.0.1", server.port)

    async def talk() -> Any:
        async def decide(host: str, port: int) -> bool:
            assert asyncio.get_running_loop() is home
            await asyncio.sleep(0)
            return host == "127.0.0.2" and port == other

        home = asyncio.get_running_loop()
        code = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.2:{other}/').read())"
        return await aio.run(
            ["python3", "-c", code], image="host", egress=decide, capture_output=True, timeout=60
        )

    with socket.create_server(("127.0.0.2", 0)) as listener:
        other = listener.getsockname()[1]
        threading.Thread(target=lambda: _serve_once(listener), daemon=True).start()
        r = asyncio.run(talk())
    assert r.stdout == b"b'hi'\n", r.stderr


def test_who_says_nothing_holds_up_nobody(server: Server) -> None:
    with (
        pyminicon.start(image="host", egress=[f"127.0.0.1:{server.port}"]) as c,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(60):
            slow = stack.enter_context(c.connect(61080))
            slow.sendall(b"GET http")
        assert asked(c, "127.0.0.1", server.port).endswith(b"hi")


def test_thousands_of_connections_leave_nothing() -> None:
    code = """
import socket
for i in range(3000):
    try:
        s = socket.create_connection(("127.0.0.1", 61080)); s.send(b"x"); s.close()
    except OSError: pass
"""
    with pyminicon.start(image="host", egress=[]) as c:
        asked(c, "127.0.0.1", 80)
        before = len(os.listdir("/proc/self/fd"))
        assert c.run(["python3", "-c", code], timeout=120).returncode == 0
        deadline = time.monotonic() + 60
        while len(os.listdir("/proc/self/fd")) > before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert asked(c, "127.0.0.1", 80).startswith(b"HTTP/1.1 403")


FLOOD = """
import os, socket
for _ in range(4):
    if os.fork() == 0:
        kept = []
        for i in range(25000):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", 61080))
            if i % 100: s.close()
            elif len(kept) < 200: kept.append(s)
        os._exit(0)
for _ in range(4):
    assert os.wait()[1] == 0
"""


@pytest.mark.slow
def test_a_hundred_thousand_connections_hold_nobody_up_and_leave_nothing(server: Server) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with (
        pyminicon.start(image="host", egress=[]) as c,
        pyminicon.start(image="host", egress=[f"127.0.0.1:{server.port}"]) as other,
    ):
        asked(c, "127.0.0.1", 80)
        assert asked(other, "127.0.0.1", server.port).endswith(b"hi")
        fds, size = len(os.listdir("/proc/self/fd")), resident()
        with c.start(["python3", "-c", FLOOD], stderr=pyminicon.PIPE) as flood:
            answers = 0
            while flood.poll() is None:
                assert asked(other, "127.0.0.1", server.port).endswith(b"hi")
                answers += 1
                assert len(os.listdir("/proc/self/fd")) < fds + 300
            assert (flood.returncode, flood.stderr.read()) == (0, b"")
        assert answers > 0
        deadline = time.monotonic() + 60
        while len(os.listdir("/proc/self/fd")) > fds + 4:  # the command's own
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert resident() < size + (64 << 20)
        assert asked(c, "127.0.0.1", 80).startswith(b"HTTP/1.1 403")


def test_containers_of_one_process_have_rules_of_their_own(server: Server) -> None:
    """The proxy's loop hears of each at its first connection, and never of whoever makes none."""
    rules = [[f"127.0.0.1:{server.port}"], [], ["127.0.0.2"], [f"127.0.0.1:{server.port}"]]
    with contextlib.ExitStack() as stack:
        boxes = [stack.enter_context(pyminicon.start(image="host", egress=rule)) for rule in rules]
        silent = stack.enter_context(pyminicon.start(image="host", egress=["127.0.0.1"]))
        for box, rule in reversed(list(zip(boxes, rules, strict=True))):
            allowed = rule == rules[0]
            for _ in range(3):
                assert asked(box, "127.0.0.1", server.port).startswith(b"HTTP/1.1 200") is allowed
            assert len(box.refused) == (0 if allowed else 3)
        assert silent.refused == []


def test_refusals_are_kept_up_to_a_thousand() -> None:
    code = """
import socket
for i in range(1010):
    s = socket.create_connection(("127.0.0.1", 61080)); s.sendall(b"CONNECT n%d.test:443 HTTP/1.1\\r\\n\\r\\n" % i)
    while s.recv(999): pass
"""
    r = pyminicon.run(["python3", "-c", code], image="host", egress=[], timeout=120)
    assert len(r.refused) == 1000
    assert r.refused[-1] == ("n1009.test", 443, "no rule allows n1009.test:443: egress='n1009.test' would")


def _sockets() -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{fd}")] += 1
    return collections.Counter(
        {name: n for name, n in found.items() if "socket:" in name or "eventpoll" in name}
    )


def test_a_fork_inherits_none_of_its_sockets(server: Server) -> None:
    code = "import socket; s = socket.create_connection(('127.0.0.1', 61080)); s.sendall(b'CONNECT'); print(1, flush=True); s.recv(1)"
    before = _sockets()
    with pyminicon.start(
        ["python3", "-c", code], image="host", egress=[f"127.0.0.1:{server.port}"], stdout=pyminicon.PIPE
    ) as c:
        assert c.stdout is not None and c.stdout.readline() == b"1\n"
        line_and_its_copy_and_a_client = 3
        until = time.monotonic() + 30
        while (_sockets() - before).total() < line_and_its_copy_and_a_client and time.monotonic() < until:
            time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            left = -1
            try:
                left = (_sockets() - before).total()
            finally:
                os._exit(left)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_fork_has_nothing_of_it(server: Server) -> None:
    with pyminicon.start(image="host", egress=[f"127.0.0.1:{server.port}"]) as c:
        assert asked(c, "127.0.0.1", server.port).endswith(b"hi")
        pid = os.fork()
        if pid == 0:
            try:
                with pyminicon.start(image="host", egress=[f"127.0.0.1:{server.port}"]) as other:
                    good = asked(other, "127.0.0.1", server.port).endswith(b"hi")
                os._exit(0 if good else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert asked(c, "127.0.0.1", server.port).endswith(b"hi")


@pytest.mark.parametrize(
    "rules",
    [
        ["*.*"],
        ["a b"],
        ["http://a"],
        ["a:0"],
        ["a:70000"],
        ["a:x"],
        ["a:"],
        ["1.2.3"],
        ["0x7f.1"],
        [""],
        ["a..b"],
        ["[::1"],
        "a.com",
        ["a:5-"],
        ["10.0.0.0/99"],
    ],
    ids=repr,
)
def test_a_rule_that_is_none_is_a_spec_error(rules: Any) -> None:
    with pytest.raises(pyminicon.SpecError, match="egress"):
        pyminicon.run(["true"], egress=rules)


def test_it_goes_with_an_own_loopback_alone() -> None:
    for network in ("off", "host"):
        with pytest.raises(pyminicon.SpecError, match="egress"):
            pyminicon.run(["true"], image="host", network=network, egress=[])  # type: ignore[arg-type]
    with pytest.raises(pyminicon.SpecError, match="egress_headers"):
        pyminicon.run(["true"], egress_headers={"a": {"B": "c"}})
    for headers in ({"a": {"B": "c\r\nd"}}, {"a": {"Host": "b"}}, {"a b": {}}, {"a": {"x y": "z"}}, ["a"]):
        with pytest.raises(pyminicon.SpecError, match="egress_headers"):
            pyminicon.run(["true"], egress=[], egress_headers=headers)  # type: ignore[arg-type]


def test_a_cancelling_is_not_forgotten_when_the_work_ends_in_that_moment() -> None:
    async def run() -> None:
        work = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(within(60, work))
        await asyncio.sleep(0)
        work.set_result(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await within(60, asyncio.sleep(0, 7)) == 7
        with pytest.raises(TimeoutError):
            await within(0.01, asyncio.sleep(60))

    asyncio.run(run())
