"""The host's sockets: abstract names, its loopback, other families, raw packets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

CONNECT = """
import socket, sys
for family, address in ((socket.AF_UNIX, sys.argv[1].replace("@", chr(0), 1)), (socket.AF_INET, ("127.0.0.1", int(sys.argv[2])))):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        try:
            s.settimeout(2); s.connect(address); print("connected")
        except OSError as error:
            print(type(error).__name__)
"""


@pytest.fixture
def listeners() -> Iterator[tuple[str, int]]:
    name = f"pyminicon-attack-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket() as loopback:
        abstract.bind(f"\0{name}")
        abstract.listen(64)
        loopback.bind(("127.0.0.1", 0))
        loopback.listen(64)
        yield f"@{name}", loopback.getsockname()[1]


def test_a_container_cannot_reach_abstract_sockets_or_the_hosts_loopback(
    listeners: tuple[str, int], inside: Run
) -> None:
    words = ["python", "-c", CONNECT, listeners[0], str(listeners[1])]
    assert inside(words, image="python").stdout.split() == ["ConnectionRefusedError"] * 2
    # With the host's network both are there: what separates is the namespace.
    assert inside(words, image="python", network="host").stdout.split() == ["connected"] * 2


def test_loopback_is_the_only_interface_and_there_is_no_way_out(inside: Run) -> None:
    names = "import socket; print([n for _, n in socket.if_nameindex()])"
    script = (
        names
        + "\nfor a in ('169.254.169.254', '1.1.1.1', '192.168.0.1'):\n try: socket.create_connection((a, 80), 1)\n except OSError as e: print(e.errno)"
    )
    lines = inside(["python", "-c", script], image="python").stdout.splitlines()
    assert lines == ["['lo']", "101", "101", "101"]
    # With the host's network it sees what the host has.
    here = [name for _, name in socket.if_nameindex()]
    assert inside(["python", "-c", names], image="python", network="host").stdout == f"{here}\n"


@pytest.mark.parametrize("family", [17, 38, 40])
def test_a_container_cannot_open_sockets_of_dangerous_families(
    family: int, hostile: Run, needs_root: None
) -> None:
    """AF_ALG is a way into the kernel's crypto code, AF_VSOCK one to the hypervisor and to other machines."""
    answer = hostile("sys", 41, family, 3 if family == 17 else 5, 0)["call"]
    if family == 17:  # packets of its own namespace: only lo is there, but their rings no limit counts
        assert answer == (-1, 1)
        assert hostile("sys", 41, family, 3, 0, cap_add=["NET_RAW"])["call"][0] >= 0
        assert hostile("sys", 41, family, 3, 0, user="1000")["call"] == (-1, 1)
        assert hostile("sys", 41, family, 3, 0, cap_drop=["NET_RAW"])["call"] == (-1, 1)
    else:
        assert answer == (-1, 1)
        assert hostile("sys", 41, family, 1, 0, seccomp="unconfined")["call"] != (-1, 1)


def test_a_container_cannot_configure_the_hosts_network(inside: Run, needs_root: None) -> None:
    script = "import socket,fcntl,struct; s=socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 0))"
    for options in ({}, {"network": "host"}):
        r = inside(["python", "-c", script], image="python", **options)
        assert "PermissionError" in r.stderr
    r = inside(["python", "-c", script + "; print('down')"], image="python", cap_add=["NET_ADMIN"])
    assert r.stdout == "down\n"
    assert int(Path("/sys/class/net/lo/flags").read_text(), 16) & 1  # the host's own is still up
