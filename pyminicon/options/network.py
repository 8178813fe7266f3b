"""The options of a network: ports that are published."""

from __future__ import annotations

import socket

from pyminicon.errors import SpecError
from pyminicon.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyminicon.options import Spec

_MOST_PUBLISHED = 200


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


def check_together(spec: Spec) -> None:
    """What serving a network takes. Raises SpecError."""
    if spec.publish and spec.network in ("off", "host"):
        why = "there are no ports inside" if spec.network == "off" else "its ports are this machine's already"
        raise SpecError("publish", f"can't be given with network={spec.network!r}: {why}")
    spec.serves = bool(spec.publish)
