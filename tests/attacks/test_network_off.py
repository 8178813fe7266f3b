"""A container without sockets: none can be made but of AF_UNIX, under any filter and for any user."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.options import parse
from pyminicon.plan import build

Run = Callable[..., Any]

SOCKET, SOCKETPAIR, IO_URING_SETUP = 41, 53, 425
UNIX, STREAM = 1, 1
FAMILIES = [0, 2, 3, 10, 15, 16, 17, 38, 40, 41, 44, 45, 255, 0x7FFFFFFF, 0xFFFFFFFF]
HIGH = 1 << 32
FILTERS = [{}, {"seccomp": "unconfined"}, {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}]


@pytest.mark.parametrize("options", FILTERS, ids=["default", "unconfined", "own"])
def test_no_family_but_unix_can_be_had(hostile: Run, options: dict[str, Any]) -> None:
    for family in (*FAMILIES, HIGH | 2, HIGH | 16):
        for call in (SOCKET, SOCKETPAIR):
            answer = hostile("sys", call, family, STREAM, 0, network="off", **options)["call"]
            assert answer == (-1, errno.EAFNOSUPPORT), (call, family)
    if not options:
        assert hostile("sys", SOCKET, 2, STREAM, 0)["call"][0] >= 0, "it can be had with a loopback"


@pytest.mark.parametrize("options", FILTERS, ids=["default", "unconfined", "own"])
def test_unix_sockets_go_on_working(hostile: Run, options: dict[str, Any]) -> None:
    for family in (UNIX, HIGH | UNIX):  # the kernel looks at the lower half alone
        assert hostile("sys", SOCKET, family, STREAM, 0, network="off", **options)["call"][0] >= 0


def test_io_uring_makes_none_either(hostile: Run) -> None:
    answer = hostile("sys", IO_URING_SETUP, 8, 0, network="off", seccomp="unconfined")["call"]
    assert answer == (-1, errno.EPERM)


def test_no_other_entry_into_the_kernel_makes_one(hostile: Run, outside: Run) -> None:
    off = {"network": "off", "seccomp": "unconfined"}
    assert hostile("x32", SOCKET, 2, STREAM, 0, **off)["call"][0] == -1
    if outside("int80", 20)["call"][1] == errno.ENOSYS:
        pytest.skip("needs x32 calls or others of 32 bits: this kernel has none")
    for number in (102, 359, 360):  # socketcall whole, socket, socketpair
        answer = hostile("int80", number, 2, STREAM, 0, **off)["call"]
        assert answer == (-1, errno.EAFNOSUPPORT), number
    assert hostile("int80", 20, **off)["call"][0] > 0, "the rest of that entry stays"


@pytest.mark.parametrize("options", [{}, {"user": "1000"}, {"init": True}, {"read_only": True}], ids=repr)
def test_there_is_an_own_network_and_its_loopback_is_down(
    inside: Run, options: dict[str, Any], needs_root: None
) -> None:
    line = "cat /sys/class/net/*/flags; ls /sys/class/net; cat /proc/net/unix | wc -l"
    told = inside(["sh", "-c", line], network="off", **options).stdout.split()
    assert told[:2] == ["0x8", "lo"], "not up (0x1)"
    assert inside(["cat", "/sys/class/net/lo/flags"], **options).stdout == "0x9\n"


@pytest.mark.parametrize("asked", [["NET_ADMIN"], ["NET_RAW"], ["ALL"]], ids=repr)
def test_what_configures_a_network_is_refused(asked: list[str]) -> None:
    with pytest.raises(pyminicon.SpecError, match=r"cap_add: CAP_NET_\w+ .* network='off'"):
        pyminicon.run(["true"], network="off", cap_add=asked)


def test_all_capabilities_but_those_may_be_had() -> None:
    options = {"network": "off", "cap_add": ["ALL"], "cap_drop": ["NET_ADMIN", "NET_RAW"]}
    bits = build.build(parse.parse(["true"], options)).fields["capabilities"]
    assert not bits >> 12 & 3 and bits >> 21 & 1


def test_a_socket_that_is_handed_in_works(inside: Run) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        r = inside(["sh", "-c", "echo through >&0"], network="off", stdin=theirs)
        assert (r.returncode, ours.recv(100)) == (0, b"through\n")


@pytest.mark.parametrize("options", FILTERS, ids=["default", "unconfined", "own"])
def test_commands_of_a_container_that_lives_make_none_either(attack: Path, options: dict[str, Any]) -> None:
    words = ["/attack", "sys", str(SOCKET)]
    with pyminicon.start(network="off", volumes=[f"{attack}:/attack:ro"], **options) as box:
        told = [
            box.run([*words, str(family), "1", "0"], capture_output=True, text=True).stdout.split()
            for family in (2, UNIX)
        ]
    assert told[0][1:] == ["-1", str(errno.EAFNOSUPPORT)]
    assert int(told[1][1]) >= 0
