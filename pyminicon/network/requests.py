"""What is asked of a proxy, read strictly: what two readers could understand in two ways is refused."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_HEAD = 64 << 10  # bytes
_MOST_FIELDS = 200

_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~]{1,16384}) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])( [\t -~\x80-\xff]*)?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]:@/?#\\%]{1,255})(?::([0-9]{1,5}))?")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([/?][!-~]*)?")
_SIZE = re.compile(rb"[0-9]{1,15}")

#: Of one connection, never of what is beyond it.
_HOP = frozenset(
    b"connection proxy-connection keep-alive proxy-authorization proxy-authenticate te trailer upgrade".split()
)
#: What a Connection field can't take away.
_KEPT = frozenset(b"host content-length transfer-encoding".split())


class Refused(Exception):
    """The request isn't carried out: a status of HTTP's, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status: int = status


class Request:
    """A head, read: where it leads, and what is to be said there."""

    def __init__(
        self, method: bytes, host: str, port: int, path: bytes, fields: list[tuple[bytes, bytes]]
    ) -> None:
        self.method: bytes = method
        self.host: str = host
        self.port: int = port
        self.path: bytes = path
        self.fields: list[tuple[bytes, bytes]] = fields
        self.size: int = 0  # of the body
        self.chunked: bool = False

    @property
    def tunnel(self) -> bool:
        return self.method == b"CONNECT"

    def head(self, added: Mapping[str, str]) -> bytes:
        """What the server is told; ``added`` takes the place of fields of the same name."""
        own = {name.lower().encode("latin-1"): (name, value) for name, value in added.items()}
        name = f"[{self.host}]" if ":" in self.host else self.host
        host = (name if self.port == 80 else f"{name}:{self.port}").encode()
        lines = [self.method + b" " + self.path + b" HTTP/1.1", b"Host: " + host]
        for key, value in without_hops(self.fields):
            if key.lower() not in own and key.lower() != b"host":
                lines.append(key + b": " + value)
        lines += [f"{name}: {value}".encode("latin-1") for name, value in own.values()]
        return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def without_hops(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields that go on to the next."""
    named = {
        word.strip().lower()
        for key, value in fields
        if key.lower() == b"connection"
        for word in value.split(b",")
    }
    gone = _HOP | (named - _KEPT)
    return [(key, value) for key, value in fields if key.lower() not in gone]


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > _MOST_FIELDS:
        raise Refused(431, f"more than {_MOST_FIELDS} header fields")
    found = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Refused(400, "a header field is malformed")
        found.append((match[1], match[2]))
    return found


def authority(words: str, port: int | None) -> tuple[str, int]:
    """Host and port; ``port``: where none is said, or None if it must be. Raises Refused."""
    match = _AUTHORITY.fullmatch(words)
    if match is None:
        raise Refused(400, "the address is malformed")
    number = int(match[2]) if match[2] else port
    if number is None or not 1 <= number <= 65535:
        raise Refused(400, "the port is missing or out of range")
    return match[1].strip("[]"), number


def read(head: bytes) -> Request:
    """A request's head, without the empty line. Raises Refused."""
    first, *rest = head.split(b"\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise Refused(400, "the request line is malformed")
    fields = _fields(rest)
    if match[1] == b"CONNECT":
        host, port = authority(match[2].decode("ascii"), None)
        made = Request(match[1], host, port, b"", fields)
        if any(key.lower() in (b"content-length", b"transfer-encoding") for key, _ in fields):
            raise Refused(400, "CONNECT has no body")
    else:
        made = _absolute(match[1], match[2].decode("ascii"), fields)
        _frame(made, match[3] == b"1")
    if sum(key.lower() == b"host" for key, _ in fields) > 1:
        raise Refused(400, "there are two Host fields")
    return made


def _absolute(method: bytes, target: str, fields: list[tuple[bytes, bytes]]) -> Request:
    match = _URL.fullmatch(target)
    if match is None:
        raise Refused(400, "this is a proxy: it takes http://HOST/PATH, or CONNECT HOST:PORT")
    if match[1].lower() != "http":
        raise Refused(400, "only http goes this way, all else by CONNECT")
    host, port = authority(match[2], 80)
    path = match[3] or "/"
    return Request(method, host, port, (path if path.startswith("/") else "/" + path).encode(), fields)


def _frame(request: Request, has_chunks: bool) -> None:
    """Where the body ends. What says it in two ways is how requests are smuggled."""
    sizes = [value for key, value in request.fields if key.lower() == b"content-length"]
    codings = [value for key, value in request.fields if key.lower() == b"transfer-encoding"]
    if len(sizes) > 1 or len(codings) > 1 or (sizes and codings):
        raise Refused(400, "the end of the body is said twice")
    if codings:
        if codings[0].lower() != b"chunked" or not has_chunks:
            raise Refused(400, "the only transfer coding is chunked")
        request.chunked = True
    if sizes:
        if _SIZE.fullmatch(sizes[0]) is None:
            raise Refused(400, "Content-Length is malformed")
        request.size = int(sizes[0])


def chunk_size(line: bytes) -> int:
    """Of a chunk's first line. Raises Refused."""
    match = re.fullmatch(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t -~]{0,1024})?", line)
    if match is None:
        raise Refused(400, "a chunk is malformed")
    return int(match[1], 16)


def answer_head(head: bytes) -> tuple[int, bytes]:
    """The status, and the head as the container is to have it: the connection ends with this answer. Raises Refused."""
    first, *rest = head.split(b"\r\n")
    match = _STATUS.fullmatch(first)
    if match is None:
        raise Refused(502, "the server's answer is malformed")
    try:
        fields = _fields(rest)
    except Refused as error:
        raise Refused(502, f"the server's answer: {error}") from None
    lines = [first, *(key + b": " + value for key, value in without_hops(fields))]
    if match[1] != b"100":
        lines.append(b"Connection: close")
    return int(match[1]), b"\r\n".join([*lines, b"", b""])


# ---- SOCKS, version 5 (RFC 1928) --------------------------------------------------------------------

SOCKS_GRANTED, SOCKS_NOT_ALLOWED, SOCKS_UNREACHABLE, SOCKS_REFUSED = 0, 2, 4, 5
SOCKS_NO_COMMAND, SOCKS_NO_ADDRESS = 7, 8


def socks_answer(code: int) -> bytes:
    return bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))


class SocksRefused(Exception):
    """Not a request that is carried out: the code that says so."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code: int = code


def socks_host(kind: int, data: bytes) -> str:
    """The host of a request of address type ``kind``. Raises SocksRefused."""
    import ipaddress

    if kind in (1, 4):
        return str(ipaddress.ip_address(data))
    try:
        words = data.decode("ascii")
    except UnicodeDecodeError:
        raise SocksRefused(SOCKS_NO_ADDRESS, "the name isn't ASCII") from None
    if not words or any(not "!" <= character <= "~" for character in words):
        raise SocksRefused(SOCKS_NO_ADDRESS, "the name is malformed")
    return words
