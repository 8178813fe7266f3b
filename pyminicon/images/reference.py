"""Names of images: what people write, and what it is short for.

The grammar is that of the OCI distribution specification ("Pulling manifests") and of docker's
references: ``[registry[:port]/]repository[:tag][@digest]``. Without a registry it is Docker Hub's.
"""

from __future__ import annotations

import re

from .config import is_digest
from .errors import ImageError

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?",
    re.ASCII,
)
_HUB = "docker.io"


class Reference:
    """``registry`` (str, host[:port]), ``repository`` (str), ``tag`` (str, may be empty when there
    is a digest), ``digest`` (str, may be empty). ``str()`` gives the full spelling."""

    __slots__ = ("digest", "registry", "repository", "tag")

    def __init__(self, registry: str, repository: str, tag: str, digest: str = "") -> None:
        self.registry: str = registry
        self.repository: str = repository
        self.tag: str = tag
        self.digest: str = digest

    @property
    def wanted(self) -> str:
        """What to ask the registry for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    @property
    def api_host(self) -> str:
        """Where the registry answers: Docker Hub's name isn't its server's."""
        return "registry-1.docker.io" if self.registry == _HUB else self.registry

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def parse(text: str) -> Reference:
    """The reference that ``text`` spells. Raises ImageError saying what is wrong with it."""
    base, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise ImageError(
            f"{text!r:.200}: after '@' comes sha256: and 64 hexadecimal digits, or sha512: and 128"
        )
    head, slash, last = base.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ImageError(
            f"{text!r:.200}: {tag!r:.140} isn't a tag (letters, digits, '_', '.', '-', 128 at most)"
        )
    registry, repository = _split(head + slash + last)
    if not _HOST.fullmatch(registry):
        raise ImageError(f"{text!r:.200}: {registry!r:.200} isn't a registry's host[:port]")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise ImageError(
            f"{text!r:.200}: {repository!r:.200} isn't a repository (lower case letters and digits, "
            "with single '.', '_', '-' or '/' between them)"
        )
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def _split(path: str) -> tuple[str, str]:
    first, slash, rest = path.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        if first in ("index.docker.io", "registry-1.docker.io"):
            first = _HUB
        if first != _HUB or "/" in rest:
            return first, rest
        path = rest
    return _HUB, path if "/" in path else f"library/{path}"


def parse_local(text: str) -> str:
    """The full spelling of a name given to an import: without a registry it is ``localhost/...``."""
    first, slash, _ = text.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        text = f"localhost/{text}"
    found = parse(text)
    if found.digest:
        raise ImageError(f"{text!r:.200}: a name can't hold a digest")
    return str(found)


def familiar(name: str) -> str:
    """A full name as people write it: ``docker.io/library/debian:12`` is ``debian:12``."""
    for prefix in ("localhost/", "docker.io/library/", "docker.io/"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name
