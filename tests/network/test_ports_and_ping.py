"""Port 80 and ping, for whoever runs inside: docker's two settings in each network of a container's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.plan import id_maps

PORTS, PING = (f"/proc/sys/net/ipv4/{name}" for name in ("ip_unprivileged_port_start", "ping_group_range"))

#: An echo request by a socket that takes no right but the group's, and a server at port 80.
TRY = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as s:
    s.settimeout(30)
    s.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\1hello", ("127.0.0.1", 0))
    assert s.recv(99)[-5:] == b"hello"
with socket.create_server(("127.0.0.1", 80)) as s, socket.create_connection(("127.0.0.1", 80)) as c:
    s.accept()[0].sendall(b"hi")
    assert c.recv(9) == b"hi"
print("both")
"""
BOTH = "both\n"
RANGE = ["cat", PORTS, PING]


@pytest.fixture(autouse=True)
def this_machines_stay() -> Any:
    before = [Path(path).read_text() for path in (PORTS, PING)]
    yield
    assert [Path(path).read_text() for path in (PORTS, PING)] == before


def _try(**options: Any) -> str:
    result = pyminicon.run(["python3", "-c", TRY], capture_output=True, text=True, timeout=60, **options)
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    "options",
    [{}, {"cap_drop": ["ALL"]}, {"user": "1000"}, {"user": "1000:2000", "init": True}, {"user": "1000", "userns": "private"},
     {"userns": "private", "cap_drop": ["ALL"]}, {"user": "3", "userns": "0:200000:1,1:100000:65000"},
     {"user": "1000", "pid": "host"}, {"user": "1000", "sysctls": {"net.ipv4.ip_forward": 1}}],
    ids=str,
)  # fmt: skip
def test_any_user_inside_has_them(options: dict[str, Any], needs_root: None) -> None:
    assert _try(**options) == BOTH


def test_a_templates_containers_and_commands_have_them(needs_root: None) -> None:
    with pyminicon.Template(user="1000") as t:
        for _ in range(2):
            assert t.run(["python3", "-c", TRY], capture_output=True, text=True).stdout == BOTH
    with pyminicon.start() as c:
        assert c.run(["python3", "-c", TRY], user="1000", capture_output=True, text=True).stdout == BOTH


def test_an_ordinary_users_containers_have_them(
    as_user: Callable[..., subprocess.CompletedProcess[str]], needs_root: None
) -> None:
    code = (
        f"import pyminicon\nfor more in ({{}}, {{'userns': 'private'}}, {{'user': '1000'}}, {{'cap_drop': ['ALL']}}):\n"
        f" r = pyminicon.run(['python3', '-c', {TRY!r}], capture_output=True, text=True, timeout=60, **more)\n"
        f" print(more, r.stdout + r.stderr, end='')"
    )
    ran = as_user(code)
    assert ran.stdout.count("both\n") == 4, ran
    assert ran.stderr == ""


def test_the_program_ping_works_for_an_ordinary_user_inside(needs_root: None) -> None:
    ping = shutil.which("ping")
    if ping is None:
        pytest.skip("needs ping")
    for options in ({}, {"user": "1000"}, {"user": "1000", "userns": "private"}):
        ran = pyminicon.run(
            [ping, "-c1", "-W20", "127.0.0.1"], stdout=pyminicon.PIPE, text=True, timeout=60, **options
        )  # type: ignore[call-overload]
        assert "1 received" in ran.stdout, ran


def test_what_is_asked_for_comes_after_them(needs_root: None) -> None:
    sysctls: dict[str, str | int] = {
        "net.ipv4.ip_unprivileged_port_start": 81,
        "net.ipv4.ping_group_range": "1 0",
    }
    told = pyminicon.run(RANGE, sysctls=sysctls, capture_output=True, text=True).stdout
    assert told.split() == ["81", "1", "0"]
    assert "PermissionError" in _try(user="1000", sysctls=sysctls)


def test_other_networks_are_left_as_they_are(needs_root: None) -> None:
    own = Path(PORTS).read_text() + Path(PING).read_text()
    assert pyminicon.run(RANGE, network="host", capture_output=True, text=True).stdout == own


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([(0, 0, 4294967295)], "0 2147483647"),
        ([(0, 1000, 1)], "0 0"),
        ([(5, 1000, 1)], "5 5"),
        ([(0, 1000, 1), (1, 100000, 65536)], "0 65536"),
        ([(0, 200000, 1), (1, 100000, 65536)], "1 65536"),
        ([(1, 100000, 65536), (0, 1000, 1)], "0 65536"),
    ],
)
def test_the_range_of_groups_has_mapped_ends_in_order(rows: list[tuple[int, int, int]], found: str) -> None:
    assert id_maps.range_of(rows) == found
