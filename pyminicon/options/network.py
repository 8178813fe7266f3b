"""The options of a network: ports that are published, and what is let out."""

from __future__ import annotations

import socket

from pyminicon.errors import SpecError
from pyminicon.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.options import Spec

_MOST_PUBLISHED = 200

#: Where a container finds its proxy: above the ports that the kernel picks.
PROXY_PORT = 61080
_PROXY = f"http://127.0.0.1:{PROXY_PORT}"
#: As programs look for it. ALL_PROXY isn't socks5h://, for which some want a package that they don't have.
PROXY_VARIABLES = {
    name: value
    for upper, value in (
        ("HTTP_PROXY", _PROXY), ("HTTPS_PROXY", _PROXY), ("ALL_PROXY", _PROXY), ("NO_PROXY", "localhost,127.0.0.1,::1"),
    )
    for name in (upper, upper.lower())
} | {"NODE_USE_ENV_PROXY": "1"}  # fmt: skip


def publish(name: str, items: list[Any]) -> list[tuple[str, int, int]]:
    """(address outside, port outside or 0, port inside) of each. Raises SpecError."""
    found = [_published(name, text(name, item)) for item in items]
    inside = [port for _, _, port in found]
    for port in inside:
        if inside.count(port) > 1:
            raise SpecError(name, f"port {port} inside is published twice: leave one of them")
    if len(found) > _MOST_PUBLISHED:
        raise SpecError(name, f"takes {_MOST_PUBLISHED} ports at most")
    return found


def _published(name: str, item: str) -> tuple[str, int, int]:
    words, slash, kind = item.partition("/")
    head, _, last = words.rpartition(":")
    address, colon, outside = head.rpartition(":")
    if head and not colon:
        address, outside = "127.0.0.1", head
    if not head:
        address, outside = "127.0.0.1", "0"
    if slash and kind != "tcp":
        raise SpecError(name, f"carries TCP alone, not {kind!r:.20}; network='pasta' has UDP outward")
    bracketed = address[:1] == "[" and address[-1:] == "]"
    family = socket.AF_INET6 if bracketed else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address.strip("[]") if bracketed else address)
        return socket.inet_ntop(family, packed), _port(outside, 0), _port(last, 1)
    except (OSError, ValueError):
        raise SpecError(name, f"takes [ADDRESS:]PORT:PORT, as 127.0.0.1:8080:80, not {item!r:.60}") from None


def _port(word: str, least: int) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 6 and least <= int(word) <= 65535):
        raise ValueError(word)
    return int(word)


def headers(name: str, value: Any) -> dict[str, dict[str, str]]:
    """What the proxy adds to plain HTTP, by host. Raises SpecError."""
    from pyminicon.options.egress import address_of, name_of

    found: dict[str, dict[str, str]] = {}
    try:
        rows = [(text(name, host), list(fields.items())) for host, fields in value.items()]
    except AttributeError:
        raise SpecError(name, 'takes {"host": {"Name": "value"}}') from None
    for host, fields in rows:
        key = str(address_of(host) or name_of(host) or "")
        if not key:
            raise SpecError(name, f"{host!r:.60} is neither a name nor an address")
        found[key] = {}
        for field, content in [(text(name, one), text(name, other)) for one, other in fields]:
            good = field.isascii() and field.replace("-", "").replace("_", "").isalnum()
            if not good or field.lower() in _OUR_FIELDS or not all(" " <= one <= "~" for one in content):
                raise SpecError(name, f"{field!r:.60}: takes a field's name and a value of one line in ASCII")
            found[key][field] = content
    return found


def sysctls(name: str, value: Any) -> list[tuple[str, str]]:
    """(name, value) of each setting. Raises SpecError."""
    try:
        rows = list(value.items())
    except AttributeError:
        raise SpecError(name, 'takes {"net.ipv4.ip_forward": "1"}') from None
    found = []
    for key, content in rows:
        words = text(name, key).split(".")
        plain = all(word and not set(word) - _OF_A_SETTING for word in words)
        if words[0] != "net" or len(words) < 3 or not plain:
            raise SpecError(
                name,
                f"takes settings of the container's own network, as net.ipv4.ip_forward, not {key!r:.60}",
            )
        if isinstance(content, bool) or not isinstance(content, (str, int)):
            raise SpecError(
                name, f"{key:.60}: takes a string or a whole number, not {type(content).__name__}"
            )
        line = text(name, str(content)).strip(" \t")
        if not line or "\n" in line:
            raise SpecError(name, f"{key:.60}: takes a value of one line, not {content!r:.60}")
        found.append((".".join(words), line))
    return found


#: What the kernel's names are made of, and those of interfaces among them.
_OF_A_SETTING = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-@")


#: What says where a request ends and whom it is for.
_OUR_FIELDS = frozenset("host connection content-length transfer-encoding".split())


def check_together(spec: Spec) -> None:
    """What serving a network takes. Raises SpecError."""
    if spec.publish and spec.network in ("off", "host"):
        why = "there are no ports inside" if spec.network == "off" else "its ports are this machine's already"
        raise SpecError("publish", f"can't be given with network={spec.network!r}: {why}")
    if spec.sysctls and spec.network == "host":
        raise SpecError(
            "sysctls", "can't be given with network='host': they are of the container's own network"
        )
    if spec.egress_headers and spec.egress is None:
        raise SpecError("egress_headers", "are added by the proxy that egress makes: give both")
    if spec.egress is not None:
        if spec.network != "none":
            raise SpecError(
                "egress", f"can't be given with network={spec.network!r}: it is the only way out, or none"
            )
        spec.env = {**PROXY_VARIABLES, **(spec.env or {})}
    spec.serves = bool(spec.publish) or spec.egress is not None
