"""What a proxy reads, byte by byte: rules, heads, requests; and strangers' bytes at random."""

from __future__ import annotations

import ipaddress
import os
import random
import re
import time
from typing import Any

import pytest

import pyminicon
from pyminicon.network import requests
from pyminicon.network.requests import Refused, SocksRefused
from pyminicon.options import parse
from pyminicon.options.egress import Rules, address_of, name_of


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        ("a.com", [("a.com", 80), ("a.com", 443)], [("a.com", 8080), ("b.a.com", 443), ("xa.com", 443)]),
        ("*.a.com", [("b.a.com", 443), ("c.b.a.com", 80)], [("a.com", 443), ("xa.com", 443)]),
        ("a.com:1-3,9", [("a.com", 2), ("a.com", 9)], [("a.com", 4), ("a.com", 443)]),
        ("a.com:*", [("a.com", 1), ("a.com", 65535)], [("b.com", 1)]),
        ("*", [("any.thing", 443)], [("any.thing", 22)]),
        ("BÜCHER.example.", [("xn--bcher-kva.example", 443)], [("bucher.example", 443)]),
    ],
)
def test_a_rule_of_names_allows_these_and_not_those(
    rule: str, yes: list[tuple[str, int]], no: list[tuple[str, int]]
) -> None:
    rules = Rules("egress", [rule])
    assert all(rules.allows_name(*one) for one in yes)
    assert not any(rules.allows_name(*one) for one in no)


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        ("10.1.0.0/16:5432", [("10.1.2.3", 5432)], [("10.2.0.1", 5432), ("10.1.2.3", 80)]),
        ("10.1.2.3", [("10.1.2.3", 1), ("10.1.2.3", 65535)], [("10.1.2.4", 1)]),
        ("::1", [("::1", 80)], [("::2", 80), ("127.0.0.1", 80)]),
        ("[2001:db8::/32]:443", [("2001:db8::5", 443)], [("2001:db8::5", 80), ("2001:db9::5", 443)]),
        ("::ffff:10.0.0.1", [("10.0.0.1", 80)], [("10.0.0.2", 80)]),
        ("::ffff:10.0.0.0/104", [("10.9.9.9", 80)], [("11.0.0.2", 80)]),
    ],
)
def test_a_rule_of_addresses_allows_these_and_not_those(
    rule: str, yes: list[tuple[str, int]], no: list[tuple[str, int]]
) -> None:
    rules = Rules("egress", [rule])
    assert all(rules.allows_address(ipaddress.ip_address(host), port) for host, port in yes)
    assert not any(rules.allows_address(ipaddress.ip_address(host), port) for host, port in no)


def test_a_list_that_was_read_before_is_read_as_it_is_now() -> None:
    rules, ports = ["a.example"], ["0:80"]
    for _ in range(2):
        spec = parse.parse(["true"], {"egress": rules, "publish": ports})
        assert spec.egress.allows_name("a.example", 80) and not spec.egress.allows_name("b.example", 80)
        assert [inside for _, _, inside in spec.publish] == [80]
    rules[0], ports[0] = "b.example", "0:81"
    spec = parse.parse(["true"], {"egress": rules, "publish": ports})
    assert spec.egress.allows_name("b.example", 80) and not spec.egress.allows_name("a.example", 80)
    assert [inside for _, _, inside in spec.publish] == [81]


@pytest.mark.parametrize("wrong", [[["0:80"]], [{}], [None], ["no port"], "0:80", 80])
def test_a_list_that_is_none_stays_a_spec_error(wrong: Any) -> None:
    for option in ("publish", "egress"):
        for _ in range(2):
            with pytest.raises(pyminicon.SpecError, match=option):
                parse.parse(["true"], {option: wrong})


def test_what_is_no_name_is_none() -> None:
    for host in (
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a/b",
        "a@b",
        "1",
        "1.2.3.4",
        "0x1f",
        "a.0x1",
        "x" * 64,
        "a." * 130,
        "a\0b",
        "é\ud800",
    ):
        assert name_of(host) is None, host
    assert name_of("A.Example.") == "a.example"
    assert address_of("::ffff:1.2.3.4") == ipaddress.ip_address("1.2.3.4")
    for host in ("127.1", "0x7f000001", "2130706433", "127.0.0.01", "fe80::1%lo", "1.2.3.4 "):
        assert address_of(host) is None, host


HEADS = [
    b"GET http://a.com/b?c HTTP/1.1\r\nHost: a.com\r\nAccept: */*",
    b"CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443",
    b"POST http://[::1]:8080/ HTTP/1.0\r\nContent-Length: 3\r\nConnection: x, close\r\nX: y",
    b"PUT http://a.com HTTP/1.1\r\nTransfer-Encoding: chunked",
]


def test_what_is_well_formed_is_read() -> None:
    read = [requests.read(head) for head in HEADS]
    assert [(one.host, one.port) for one in read] == [
        ("a.com", 80),
        ("a.com", 443),
        ("::1", 8080),
        ("a.com", 80),
    ]
    assert (read[2].size, read[3].chunked) == (3, True)
    assert read[2].head({"Y": "z"}) == (
        b"POST / HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 3\r\nY: z\r\nConnection: close\r\n\r\n"
    )


def _strange(dice: random.Random) -> bytes:
    data = bytearray(dice.choice(HEADS))
    odd = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"@",
        b"/",
        b"%",
        b"[",
        b"]",
        b"chunked",
        b"Content-Length: 1",
        b"\xff",
    ]
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(3)
        if kind == 0:
            data[at:at] = dice.choice(odd)
        elif kind == 1:
            del data[at : at + dice.randrange(1, 6)]
        else:
            data[at : at + 1] = bytes((dice.randrange(256),))
    return bytes(data)


def test_strange_heads_are_refused_or_read_in_one_way() -> None:
    """What is read makes a head of lines with no line's end, no nul and one framing in it."""
    seed = int(os.environ.get("FUZZ_SEED", time.time_ns()))
    dice = random.Random(seed)
    until = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "1"))
    read = refused = 0
    while time.monotonic() < until:
        data = _strange(dice)
        try:
            request = requests.read(data)
        except Refused:
            refused += 1
            continue
        read += 1
        assert 1 <= request.port <= 65535, (seed, data)
        assert re.fullmatch(r"[^\s@/?#\\\x00-\x1f\x7f]+", request.host), (seed, data)
        if request.tunnel:
            continue
        told = request.head({"X-Added": "1"})
        lines = told.split(b"\r\n")
        assert lines[-2:] == [b"", b""], (seed, data)
        assert not any(c in line for line in lines for c in (b"\r", b"\n", b"\0")), (seed, data)
        names = [line.split(b":")[0].lower() for line in lines[1:-2]]
        assert names.count(b"host") == names.count(b"connection") == names.count(b"x-added") == 1, (
            seed,
            data,
        )
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, (seed, data)
    assert read
    assert refused


def test_strange_answers_and_addresses_are_refused_or_clean() -> None:
    seed = int(os.environ.get("FUZZ_SEED", time.time_ns()))
    dice = random.Random(seed)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-A\r\nX-A: b"
    for _ in range(3000):
        data = bytearray(answer)
        for _ in range(dice.randrange(4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            status, told = requests.answer_head(bytes(data))
            assert 100 <= status <= 599, seed
            assert told.endswith(b"\r\n\r\n"), seed
            assert all(b"\n" not in line and b"\r" not in line for line in told.split(b"\r\n")), seed
        except Refused:
            pass
        name = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 20)))
        try:
            assert requests.socks_host(3, name).isprintable(), seed
        except SocksRefused:
            pass
        for words in (
            name.decode("latin-1"),
            f"{dice.randrange(1 << 40)}",
            f"[{name.hex()}]:{dice.randrange(99999)}",
        ):
            try:
                host, port = requests.authority(words, 80)
                assert "@" not in host, seed
                assert 1 <= port <= 65535, seed
            except Refused:
                pass
