"""Rules of what may be reached from inside: names, addresses, networks, each with ports."""

from __future__ import annotations

import ipaddress
import re

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Ranges of ports, or None for all.
Ports = list[tuple[int, int]] | None

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_USUAL: Ports = [(80, 80), (443, 443)]
_MOST_NAME = 253
_TAKES = "takes NAME, *.NAME, an address or a network, each with :PORTS, as example.com:443"


def name_of(host: str) -> str | None:
    """A host's name as it is compared and looked up: in lower case, without the dot at its end, in ASCII (IDNA).
    None for what is none: what inet_aton(3) would take for an address as well (2130706433, 0x7f.1)."""
    host = host.removesuffix(".")
    try:
        host = (host if host.isascii() else host.encode("idna").decode()).lower()
    except UnicodeError:
        return None
    labels = host.split(".")
    plain = len(host) <= _MOST_NAME and all(_LABEL.fullmatch(label) for label in labels)
    return host if plain and not _NUMERIC.fullmatch(labels[-1]) else None


def address_of(host: str) -> Address | None:
    """The address that ``host`` spells, in one of the two ways that are nobody's misreading."""
    try:
        return unmapped(ipaddress.ip_address(host)) if "%" not in host else None
    except ValueError:
        return None


def unmapped(address: Address) -> Address:
    """``::ffff:10.0.0.1`` is 10.0.0.1, to the kernel as well."""
    return getattr(address, "ipv4_mapped", None) or address


class Rules:
    """What a list of rules allows. Raises SpecError."""

    def __init__(self, option: str, items: Sequence[str]) -> None:
        self._names: list[tuple[str, Ports]] = []
        self._networks: list[tuple[Network, Ports]] = []
        for item in items:
            self._add(option, item)

    def _add(self, option: str, item: str) -> None:
        host, ports = _divided(option, item)
        network = _network_of(host)
        if network is not None:
            self._networks.append((network, _ports(option, item, ports, None)))
            return
        bare = host.removeprefix("*.")
        name = "" if host == "*" else name_of(bare)
        if name is None:
            raise SpecError(option, f"{_TAKES}, not {item!r:.80}")
        prefix = "*." if bare != host else "*" if host == "*" else ""
        self._names.append((prefix + name, _ports(option, item, ports, _USUAL)))

    def allows_name(self, name: str, port: int) -> bool:
        for pattern, ports in self._names:
            found = pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
            if found and _among(port, ports):
                return True
        return False

    def allows_address(self, address: Address, port: int) -> bool:
        return any(
            address.version == network.version and address in network and _among(port, ports)
            for network, ports in self._networks
        )


def _divided(option: str, item: str) -> tuple[str, str]:
    """Host and ports; an IPv6 address with ports stands in brackets."""
    if item.startswith("["):
        host, bracket, rest = item[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise SpecError(option, f"{_TAKES}, not {item!r:.80}")
        return host, rest[1:]
    if item.count(":") > 1:
        return item, ""
    host, _, ports = item.partition(":")
    return host, ports


#: What an IPv4 network is spelt with; an IPv6 one has a colon. ipaddress takes long to say no to a name.
_OF_IPV4 = frozenset("0123456789./")


def _network_of(host: str) -> Network | None:
    if ":" not in host and not _OF_IPV4.issuperset(host):
        return None
    try:
        network = ipaddress.ip_network(host, strict=False) if "%" not in host else None
    except ValueError:
        return None
    if network is None or network.version == 4:
        return network
    mapped = network.network_address.ipv4_mapped if network.prefixlen >= 96 else None
    return ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False) if mapped else network


def _ports(option: str, item: str, words: str, usual: Ports) -> Ports:
    if not words and not item.endswith(":"):
        return usual
    if words == "*":
        return None
    found = []
    for word in words.split(","):
        low, dash, high = word.partition("-")
        numbers = [low, high] if dash else [low, low]
        if not all(n.isascii() and n.isdigit() and len(n) < 6 and 1 <= int(n) <= 65535 for n in numbers):
            raise SpecError(option, f"{_TAKES}: ports are 443 or 80,443 or 8000-8010, not {item!r:.60}")
        found.append((int(numbers[0]), int(numbers[1])))
    return found


def _among(port: int, ports: Ports) -> bool:
    return ports is None or any(low <= port <= high for low, high in ports)
