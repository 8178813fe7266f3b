"""The network of a detached container, served by its keeper."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

import pyminicon
from pyminicon import aio
from tests.detached.conftest import Place, soon

SERVER = (
    "import socket\ns = socket.create_server(('127.0.0.1', 80))\nwhile True: s.accept()[0].sendall(b'hi')"
)
ASK = "import urllib.request; urllib.request.urlopen('http://192.0.2.1/')"


@pytest.fixture(autouse=True)
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYMINICON_STATE", str(place.state))
    monkeypatch.setenv("PYMINICON_STORE", str(place.store))
    yield


def test_ports_and_a_proxy_are_the_keepers(place: Place) -> None:
    pyminicon.start(
        ["python3", "-c", SERVER], detach=True, name="web", publish=["0:80"], egress=["example.com"]
    ).close()
    c = pyminicon.attach("web")
    c.wait_port(80, 60)
    (info,) = pyminicon.containers()
    assert c.ports == info.ports
    with socket.create_connection(c.ports[80]) as s:
        assert s.recv(9) == b"hi"
    assert c.refused == []
    assert b"403" in c.run(["python3", "-c", ASK], capture_output=True, timeout=60).stderr
    assert [(one.host, one.port) for one in c.refused] == [("192.0.2.1", 80)]

    async def look() -> None:
        async with await aio.attach("web") as also:
            assert also.ports == c.ports
            assert also.refused == c.refused

    asyncio.run(look())
    way = c.ports[80]
    c.kill()
    c.wait(60)
    assert c.refused == []

    def refused() -> bool:
        try:
            socket.create_connection(way).close()
        except ConnectionRefusedError:
            return True
        return False

    soon(refused)
