"""The part of this machine's /etc that programs need, for the ``host`` and ``python`` images.

An allow-list: what isn't named here (shadow, ssh keys, sudoers, whatever a service keeps there) isn't
in the container.
"""

from __future__ import annotations

import errno
import os
import stat
import time

#: Small files, copied into the private layer.
FILES = (
    "passwd",
    "group",
    "nsswitch.conf",
    "ld.so.cache",
    "ld.so.conf",
    "host.conf",
    "gai.conf",
    "localtime",
    "timezone",
    "os-release",
    "debian_version",
    "lsb-release",
    "protocols",
    "services",
    "shells",
    "profile",
    "bash.bashrc",
    "inputrc",
    "mime.types",
    "login.defs",
    "locale.conf",
)

#: Directories, mounted: each costs an overlay, so only what programs can't do without.
TREES = ("alternatives", "ssl", "pki", "crypto-policies")

_MOST = 1 << 20  # bytes of one file: ld.so.cache is tens of KiB

# When it was last looked at, and what was found: (name, link target or None, bytes, mode).
_seen: tuple[float, list[tuple[str, str | None, bytes, int]]] = (-1.0, [])


def entries() -> list[tuple[str, str | None, bytes, int]]:
    """The files as (name, link target or None, bytes, mode), looked at once a second at most."""
    global _seen
    now = time.monotonic()
    if _seen[0] < 0 or now - _seen[0] > 1.0:
        _seen = (now, [found for name in FILES if (found := _entry(name)) is not None])
    return _seen[1]


def _entry(name: str) -> tuple[str, str | None, bytes, int] | None:
    # By descriptor: a file object costs more than all its system calls, and there are twenty of them.
    path = f"/etc/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return _link(name, path) if error.errno == errno.ELOOP else None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST:
            return None
        return name, None, os.read(fd, found.st_size), 0o644
    except OSError:
        return None
    finally:
        os.close(fd)


def _link(name: str, path: str) -> tuple[str, str | None, bytes, int] | None:
    """What it points to is there only if it is in /usr: os-release, localtime."""
    target = os.readlink(path)
    return (name, target, b"", 0) if os.path.realpath(path).startswith("/usr/") else None


def trees() -> list[str]:
    """The directories of TREES that this machine has."""
    return [name for name in TREES if os.path.isdir(f"/etc/{name}") and not os.path.islink(f"/etc/{name}")]
