"""Whether a connection outward may be made, and where it really leads."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import socket

from pyminicon.network.stream import within
from pyminicon.options.egress import Address, Rules, address_of, name_of, unmapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PATIENCE = 10.0  # seconds for a name to be looked up, and for a connection
_HOOK = 60.0  # seconds for the caller's own function
_MOST_TRIED = 4
#: They carry an IPv4 address that may be anybody's: NAT64, 6to4, Teredo.
_CARRIERS = [
    ipaddress.ip_network(word)
    for word in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
]


class NotAllowed(Exception):
    """No rule allows it; the words say which would."""


class Unreachable(Exception):
    """It is allowed, and can't be reached."""


def is_public(address: Address) -> bool:
    """Whether it is somebody else's, on the Internet: neither private, link-local, loopback nor of this machine."""
    if (
        not address.is_global
        or address.is_multicast
        or any(address.version == net.version and address in net for net in _CARRIERS)
    ):
        return False
    return not _is_ours(address)


def _is_ours(address: Address) -> bool:
    """A socket can be bound to an address of this machine and to no other."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
            return True
    except OSError:
        return False


class WayOut:
    """The caller's rules, or his function, asked for each connection."""

    def __init__(
        self, egress: Rules | Callable[[str, int], Any], home: asyncio.AbstractEventLoop | None
    ) -> None:
        self._egress = egress
        self._home = home  # the loop on which an async function is awaited

    async def connect(self, host: str, port: int) -> socket.socket:
        """Raises NotAllowed, Unreachable. Looked up once; what was checked is what is dialled."""
        address = address_of(host)
        if address is not None:
            if not await self._allows(address, port):
                raise NotAllowed(
                    f"no rule allows {_spoken(address, port)}: egress={_spoken(address, port)!r} would"
                )
            return await _dialled([address], port)
        name = name_of(host)
        if name is None:
            raise NotAllowed(f"{host!r:.80} is neither a name nor an address")
        if not await self._allows_name(name, port):
            rule = name if port in (80, 443) else f"{name}:{port}"
            raise NotAllowed(f"no rule allows {name}:{port}: egress={rule!r} would")
        found = await _looked_up(name)
        fine = [one for one in found if is_public(one) or await self._allows(one, port)]
        if not fine:
            where = _spoken(found[0], port)
            raise NotAllowed(f"{name} leads to {where}, which isn't public: egress={where!r} would allow it")
        return await _dialled(fine[:_MOST_TRIED], port)

    async def _allows_name(self, name: str, port: int) -> bool:
        if isinstance(self._egress, Rules):
            return self._egress.allows_name(name, port)
        return await self._asked(name, port)

    async def _allows(self, address: Address, port: int) -> bool:
        if isinstance(self._egress, Rules):
            return self._egress.allows_address(address, port)
        return await self._asked(str(address), port)

    async def _asked(self, host: str, port: int) -> bool:
        """What the caller's function says. What it raises is a no."""
        hook: Any = self._egress
        loop = asyncio.get_running_loop()
        try:
            if self._home is not None and self._home.is_running():
                answer = asyncio.wrap_future(
                    asyncio.run_coroutine_threadsafe(_called(hook, host, port), self._home)
                )
            else:
                answer = loop.run_in_executor(None, lambda: hook(host, port))
            said = await within(_HOOK, answer)
            return (await within(_HOOK, said) if inspect.isawaitable(said) else said) is True
        except TimeoutError:
            raise NotAllowed(f"egress({host!r}, {port}) gave no answer in {_HOOK:g} s") from None
        except Exception as error:
            raise NotAllowed(f"egress({host!r}, {port}) raised {type(error).__name__}") from error


async def _called(hook: Any, host: str, port: int) -> Any:
    said = hook(host, port)
    return await said if inspect.isawaitable(said) else said


def _spoken(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


async def _looked_up(name: str) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        rows = await within(_PATIENCE, loop.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (TimeoutError, OSError, UnicodeError):
        raise Unreachable(f"{name} can't be looked up") from None
    found = [unmapped(ipaddress.ip_address(str(row[4][0]).partition("%")[0])) for row in rows]
    if not found:
        raise Unreachable(f"{name} has no address")
    return list(dict.fromkeys(found))


async def _dialled(addresses: list[Address], port: int) -> socket.socket:
    why: BaseException | None = None
    for address in addresses:
        made = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            await within(_PATIENCE, asyncio.get_running_loop().sock_connect(made, (str(address), port)))
            return made
        except (TimeoutError, OSError) as error:
            made.close()
            why = error
        except BaseException:
            made.close()
            raise
    words = getattr(why, "strerror", None) or "it doesn't answer"
    raise Unreachable(f"{_spoken(addresses[-1], port)}: {words}")
