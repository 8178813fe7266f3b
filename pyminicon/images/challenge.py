"""What a registry says when it wants to know who asks: the WWW-Authenticate header.

RFC 9110, 11.6.1 (the list of challenges and its quoting) and RFC 6750, 3 (Bearer).
"""

from __future__ import annotations

import re

from .errors import RegistryError

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?:,|$)')
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?:\s+|\s*(?=,|$))")
_LONGEST = 16384


def parse(header: str) -> list[tuple[str, dict[str, str]]]:
    """The challenges of a header as ``(scheme in lower case, parameters)``.

    Raises RegistryError for what isn't such a header.
    """
    if len(header) > _LONGEST:
        raise RegistryError(f"the registry's WWW-Authenticate header has {len(header)} characters")
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while header[at:].strip(" \t,"):
        # "name = value" goes on with the last challenge, a bare word begins the next one.
        parameter = _PARAMETER.match(header, at) if found else None
        if parameter is not None:
            name, quoted, plain = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            found[-1][1].setdefault(name.lower(), value)
            at = parameter.end()
            continue
        scheme = _SCHEME.match(header, at)
        if scheme is None or scheme.end() == at:
            raise RegistryError(f"the registry's WWW-Authenticate header can't be read: {header[:200]!r}")
        found.append((scheme[1].lower(), {}))
        at = scheme.end()
    return found
