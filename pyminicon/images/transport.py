"""HTTP as registries speak it: TLS, redirects, proxies, and patience.

http.client and no more. What a client library would add is a session with cookies, pools and
content codings, none of which a registry needs; what it can't give is the hash while streaming and
the Range request that goes on where a connection broke.
"""

from __future__ import annotations

import base64
import errno
import http.client
import ipaddress
import os
import random
import socket
import ssl
import time
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from .errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 60.0
ATTEMPTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
#: Those after which a POST goes on as a GET (RFC 9110, 15.4; what all clients do).
_AS_GET = (301, 302, 303)
_MOST_REDIRECTS = 6
#: Worth another try: the server is busy or broken for the moment.
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
NETWORK_ERRORS = (OSError, http.client.HTTPException)
_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Answer:
    """``status`` (int), ``headers``, ``url`` (str, after redirects); ``read(n)``, ``close()``."""

    __slots__ = ("_connection", "_response", "headers", "status", "url")

    def __init__(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, url: str
    ) -> None:
        self._response = response
        self._connection = connection
        self.status: int = response.status
        self.headers: http.client.HTTPMessage = response.headers
        self.url: str = url

    def read(self, size: int) -> bytes:
        return self._response.read(size)

    def whole(self, most: int) -> bytes:
        """The body, which may have ``most`` bytes. Raises RegistryError when it has more."""
        data = bytearray()
        while piece := self._response.read(65536):
            data += piece
            if len(data) > most:
                raise RegistryError(f"{self.url}: an answer of more than {most} bytes", self.status)
        return bytes(data)

    def close(self) -> None:
        self._connection.close()


class Transport:
    """Makes requests. ``ca``: a file of certificates trusted besides the system's.
    ``check`` is called between attempts; what it raises ends the waiting."""

    def __init__(self, ca: str | None = None, check: Callable[[], None] | None = None) -> None:
        self._ca = ca
        self._check = check or (lambda: None)
        self._tls: ssl.SSLContext | None = None
        self._proxies = getproxies()

    def request(
        self,
        url: str,
        headers: dict[str, str],
        method: str = "GET",
        body: bytes | None = None,
        attempts: int = ATTEMPTS,
    ) -> Answer:
        """The answer to a request, through redirects; the body is still to be read.

        Broken connections and busy servers are tried again, after 0.5, 1, 2 and 4 seconds or as
        long as the server asks for (a minute at most). Raises RegistryError when none gets through.
        """
        for attempt in range(1, attempts + 1):
            self._check()
            wait = 0.5 * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
            try:
                answer = self._follow(url, headers, method, body)
            except ssl.SSLCertVerificationError as error:
                raise RegistryError(
                    f"{_place(url)}: the certificate can't be trusted: {error.verify_message}; "
                    "--ca names one that can"
                ) from None
            except RegistryError:
                raise
            except (ValueError, http.client.InvalidURL) as error:
                # A host that no name server could have, say (UnicodeError): nothing that waiting helps.
                raise RegistryError(f"{_place(url)}: an address that can't be: {_reason(error)}") from None
            except NETWORK_ERRORS as error:
                if isinstance(error, OSError) and error.errno in _LACKS:
                    raise  # nothing that the registry has to do with
                if attempt == attempts or (
                    isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
                ):
                    raise RegistryError(f"{_place(url)}: {_reason(error)}") from None
            else:
                if answer.status not in _TRANSIENT or attempt == attempts:
                    return answer
                asked = answer.headers.get("Retry-After", "")
                wait = min(float(asked), 60.0) if asked.isascii() and asked.isdigit() else wait
                answer.close()
            self.pause(wait)
        raise AssertionError("unreachable")

    def pause(self, seconds: float) -> None:
        """Wait, and notice within a fifth of a second when nobody wants the result any more."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, 0.2))

    def _follow(self, url: str, headers: dict[str, str], method: str, body: bytes | None) -> Answer:
        for _ in range(_MOST_REDIRECTS):
            answer = self._once(url, headers, method, body)
            place = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not place:
                return answer
            answer.close()
            old, new = split(url), split(_join(url, place))
            if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
                raise RegistryError(f"{_place(url)}: redirected to {new.geturl()[:200]!r}, which isn't safe")
            elsewhere = (old.scheme, old.netloc) != (new.scheme, new.netloc)
            if elsewhere and body is not None:
                # What is posted is a refresh token.
                raise RegistryError(f"{_place(url)}: redirects a login to {new.netloc[:200]!r}")
            if elsewhere:
                # A storage host has no business with the registry's password.
                headers = {key: value for key, value in headers.items() if key != "Authorization"}
            if body is not None and answer.status in _AS_GET:
                method, body = "GET", None
                headers = {key: value for key, value in headers.items() if key != "Content-Type"}
            url = new.geturl()
        raise RegistryError(f"{_place(url)}: redirected more than {_MOST_REDIRECTS} times")

    def _once(self, url: str, headers: dict[str, str], method: str, body: bytes | None) -> Answer:
        parts = split(url)
        connection = self._connect(parts.scheme, parts.hostname or "", parts.port)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(
                method, path, body, {"User-Agent": "pyminicon", "Connection": "close", **headers}
            )
            return Answer(connection.getresponse(), connection, url)
        except BaseException:
            connection.close()
            raise

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        proxy = self._proxies.get(scheme)
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        if via is not None and (is_loopback(host) or proxy_bypass(host)):
            via = None
        at = (via.hostname or "", via.port or 80) if via else (host, port)
        if scheme == "http" and via is None:
            return http.client.HTTPConnection(*at, timeout=TIMEOUT)
        if scheme == "http":
            raise RegistryError("a plain HTTP registry behind a proxy isn't supported; see NO_PROXY")
        connection = http.client.HTTPSConnection(*at, timeout=TIMEOUT, context=self._context())
        if via is not None:
            connection.set_tunnel(host, port, _proxy_login(via))
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            made = ssl.create_default_context()
            if self._ca is not None:
                try:
                    made.load_verify_locations(self._ca)
                except (OSError, ssl.SSLError) as error:
                    raise RegistryError(f"--ca {self._ca}: {error}") from None
            self._tls = made
        return self._tls


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    """The header for the name and password in a proxy's address (RFC 9110, 11.7.2)."""
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"}


def split(url: str) -> SplitResult:
    """The parts of ``url``, which may be a stranger's. Raises RegistryError for one that can't be."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises for what is no port)
    except ValueError as error:
        raise RegistryError(f"{url[:200]!r} is an address that can't be: {error}") from None
    return parts


def is_loopback(host: str) -> bool:
    """Whether ``host`` (without port) is this machine by its very name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _join(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError as error:
        raise RegistryError(f"{_place(url)}: redirected to {place[:200]!r}: {error}") from None


def _place(url: str) -> str:
    return split(url).netloc.rpartition("@")[2]


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return os.fsdecode(text or type(error).__name__)


__all__ = ["ATTEMPTS", "NETWORK_ERRORS", "TIMEOUT", "Answer", "Transport", "is_loopback", "split"]
