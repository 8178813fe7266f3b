"""A registry: manifests by name, blobs by digest, and who is asking.

OCI distribution specification 1.1, "Pull"; Docker's token protocol ("Token Authentication
Specification" and "OAuth2") for the login.
"""

from __future__ import annotations

import json
import threading
from urllib.parse import urlencode

from . import challenge, credentials
from .errors import RegistryError
from .layout import checked
from .manifest import INDEXES, MANIFESTS
from .transport import NETWORK_ERRORS, Answer, Transport, is_loopback, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

    from .credentials import Login
    from .manifest import Descriptor
    from .reference import Reference

_PIECE = 1 << 18
_SMALL = 4 << 20
_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
#: Reconnections without a single byte in between before a blob is given up.
_FRUITLESS = 5


class Registry:
    """One repository of a registry.

    ``plain_http``: speak HTTP without TLS (loopback registries are asked in plain first anyway,
    unless ``transport`` was given a CA).
    """

    def __init__(
        self, reference: Reference, transport: Transport, plain_http: bool = False, ca: str | None = None
    ) -> None:
        self._reference = reference
        self._transport = transport
        self._lock = threading.Lock()
        self._authorization = ""
        self._login: Login | None = None
        self._looked = False
        host = reference.api_host
        self._base = f"{'http' if plain_http else 'https'}://{host}"
        if not plain_http and ca is None and is_loopback(split(f"//{host}").hostname or ""):
            self._base = self._loopback_base(host)

    def _loopback_base(self, host: str) -> str:
        """HTTP where a registry on this machine speaks it (asked without a login), else HTTPS."""
        try:
            answer = self._transport.request(f"http://{host}/v2/", {}, attempts=1)
        except RegistryError:
            return f"https://{host}"
        answer.close()
        # What Go's and nginx's TLS servers say to a plain request.
        return f"https://{host}" if answer.status == 400 else f"http://{host}"

    # -- what a Source has -------------------------------------------------------------------

    def top(self) -> bytes:
        """The manifest or index that the reference names."""
        return self._manifest(self._reference.wanted)

    def manifest(self, descriptor: Descriptor) -> bytes:
        return self._manifest(descriptor.digest)

    def small(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > _SMALL:
            raise RegistryError(
                f"{descriptor.digest} has {descriptor.size} bytes, too many for a configuration"
            )
        return b"".join(self.blob(descriptor))

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """A blob in pieces, checked against its digest; a broken connection goes on where it broke."""
        yield from checked(self._resumed(descriptor), descriptor, "what the registry sent")

    # -- requests ----------------------------------------------------------------------------

    def _manifest(self, wanted: str) -> bytes:
        for attempt in range(_FRUITLESS):
            answer = self._get(f"manifests/{wanted}", {"Accept": _ACCEPT})
            try:
                length = answer.headers.get("Content-Length")
                if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
                    raise RegistryError(
                        f"{self._reference}: an answer with the Content-Length {length[:40]!r}"
                    )
                data = answer.whole(_SMALL)
                if length is None or len(data) == int(length):
                    return data
            except NETWORK_ERRORS:
                pass
            finally:
                answer.close()
            self._transport.pause(0.5 * 2**attempt)
        raise RegistryError(f"{self._reference}: the connection breaks before the manifest is whole")

    def _resumed(self, descriptor: Descriptor) -> Iterator[bytes]:
        done, fruitless = 0, 0
        while done < descriptor.size:
            before = done
            answer = self._get(f"blobs/{descriptor.digest}", {"Range": f"bytes={done}-"} if done else {})
            try:
                skip = self._skip(answer, done)
                while piece := answer.read(_PIECE):
                    skipped = piece[skip:]
                    skip -= len(piece) - len(skipped)
                    done += len(skipped)
                    if done > descriptor.size:
                        raise RegistryError(
                            f"{descriptor.digest} is longer than the {descriptor.size} bytes announced"
                        )
                    if skipped:
                        yield skipped
            except NETWORK_ERRORS:
                pass  # go on below, at `done`
            finally:
                answer.close()
            fruitless = fruitless + 1 if done == before else 0
            if fruitless >= _FRUITLESS:
                raise RegistryError(
                    f"{self._reference}: the connection breaks again and again at byte {done}"
                )
            if done < descriptor.size:
                self._transport.pause(0.5 * 2**fruitless)

    def _skip(self, answer: Answer, done: int) -> int:
        """How much of the answer is already here: nothing when the server honoured the range."""
        if answer.status != 206:
            return done
        start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if start != str(done):
            raise RegistryError(
                f"{self._reference}: asked to go on at byte {done}, the registry went on at {start!r}"
            )
        return 0

    def _get(self, path: str, headers: dict[str, str]) -> Answer:
        url = f"{self._base}/v2/{self._reference.repository}/{path}"
        for _ in range(2):
            used = self._authorization
            sent = {**headers, "Authorization": used} if used else headers
            answer = self._transport.request(url, sent)
            if answer.status in (200, 206):
                return answer
            try:
                wants = ", ".join(answer.headers.get_all("WWW-Authenticate", []))
                if answer.status != 401 or not wants:
                    break
            finally:
                text = _first_error(answer)
                answer.close()
            with self._lock:
                # Tokens live for minutes; another thread may have got a new one meanwhile.
                if self._authorization == used:
                    self._authorization = self._authorize(wants)
        raise self._refusal(answer.status, text)

    def _refusal(self, status: int, text: str) -> RegistryError:
        name = str(self._reference)
        if status in (401, 403):
            who = "the login kept for it isn't accepted" if self._login else "it wants a login (docker login)"
            return RegistryError(f"{name}: no such image, or {who}{text}", status)
        if status == 404:
            return RegistryError(f"{name}: no such image{text}", status)
        if status == 429:
            return RegistryError(f"{name}: the registry limits how often one may ask{text}", status)
        return RegistryError(f"{name}: the registry answers {status}{text}", status)

    # -- login -------------------------------------------------------------------------------

    def _authorize(self, header: str) -> str:
        """The Authorization header that answers a WWW-Authenticate header."""
        if not self._looked:
            self._looked = True
            self._login = credentials.find(self._reference.registry, self._reference.repository)
        login = self._login
        challenges = challenge.parse(header)
        for scheme, parameters in challenges:
            if scheme == "bearer":
                if login is not None and login.bearer:
                    return f"Bearer {login.bearer}"
                return f"Bearer {self._token(parameters, login)}"
        for scheme, _ in challenges:
            if scheme == "basic" and login is not None and login.username:
                return login.basic
        if any(scheme == "basic" for scheme, _ in challenges):
            raise self._refusal(401, "")
        raise RegistryError(f"{self._reference}: a kind of login that isn't known: {header[:200]}")

    def _may_be_told(self, realm: SplitResult) -> bool:
        """A password goes over an unprotected line only where the registry itself is spoken to so, and to no
        other machine than to it: the line to this one is no stranger's."""
        base = split(self._base)
        if realm.scheme != "http" or base.scheme != "http":
            return False
        here, there = base.hostname or "", realm.hostname or ""
        return here == there or (is_loopback(here) and is_loopback(there))

    def _token(self, parameters: dict[str, str], login: Login | None) -> str:
        realm = split(parameters.get("realm", ""))
        if realm.scheme != "https" and not self._may_be_told(realm):
            raise RegistryError(
                f"{self._reference}: asks for a login at {parameters.get('realm', '')[:200]!r}"
            )
        fields = {"scope": parameters.get("scope") or f"repository:{self._reference.repository}:pull"}
        if parameters.get("service"):
            fields["service"] = parameters["service"]
        url = realm._replace(fragment="").geturl()
        if login is not None and login.identity:
            fields |= {
                "grant_type": "refresh_token",
                "refresh_token": login.identity,
                "client_id": "pyminicon",
            }
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._transport.request(url, form, "POST", urlencode(fields).encode())
        else:
            basic = {"Authorization": login.basic} if login is not None and login.username else {}
            answer = self._transport.request(f"{url}{'&' if realm.query else '?'}{urlencode(fields)}", basic)
        try:
            if answer.status != 200:
                raise self._refusal(answer.status, _first_error(answer))
            raw = json.loads(answer.whole(1 << 20))
            token = raw.get("token") or raw.get("access_token") if isinstance(raw, dict) else None
        except RegistryError:
            raise
        except (ValueError, RecursionError, *NETWORK_ERRORS):
            token = None
        finally:
            answer.close()
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise RegistryError(f"{self._reference}: the login server gave no token")
        return token


def _first_error(answer: Answer) -> str:
    """What the registry says of itself (``{"errors": [{"code": ..., "message": ...}]}``)."""
    try:
        raw = json.loads(answer.whole(65536))
        first = raw["errors"][0]
        text = f"{first.get('code', '')} {first.get('message', '')}".strip()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, *NETWORK_ERRORS):
        return ""
    return f" ({''.join(c if c.isprintable() else '?' for c in text[:200])})" if text else ""
