"""The images ``host`` and ``python``: this machine's programs, none of its data.

Of its /etc there is what programs need, by an allow-list: what isn't named here (shadow, ssh keys, sudoers,
whatever a service keeps there) isn't in the container.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from pyminicon import plan as ops
from pyminicon.plan import op, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.plan import Draft

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


def etc_entries() -> list[tuple[str, str | None, bytes, int]]:
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


def etc_trees() -> list[str]:
    """The directories of TREES that this machine has."""
    return [name for name in TREES if os.path.isdir(f"/etc/{name}") and not os.path.islink(f"/etc/{name}")]


def assemble(builder: Draft) -> None:
    """Puts the root together from directories of this machine."""
    tree, trees = builder.tree, builder.plan.rootfs.trees
    for name, target in rootfs.system_links():
        tree.skeleton.append(op(ops.SYMLINK, name, source=target))
    # An interpreter that lives below /root must be reachable for every user of the container.
    home = 0o755 if any(path.startswith("/root/") for path in trees) else 0o700
    for name, mode in (("tmp", 0o1777), ("root", home), ("home", 0o755), ("run", 0o755)):
        tree.directory(name, mode)
    for name, mode in (("var", 0o755), ("var/tmp", 0o1777), ("var/log", 0o755), ("var/lib", 0o755)):
        tree.directory(name, mode)
    for name in ("etc", "opt", "mnt", "srv", "var/cache"):
        tree.directory(name)
    tree.skeleton.append(op(ops.SYMLINK, "var/run", source="/run"))
    for path in trees:
        _mount_at_its_own_path(builder, path)
    for name, link, data, mode in etc_entries():
        if link is not None:
            tree.skeleton.append(op(ops.SYMLINK, f"etc/{name}", source=link))
        else:
            tree.skeleton.append(op(ops.FILE, f"etc/{name}", data=data, mode=mode))
    for name in etc_trees():
        _mount_at_its_own_path(builder, f"/etc/{name}")


def _mount_at_its_own_path(builder: Draft, path: str) -> None:
    """A directory of this machine: below a private layer, or read-only."""
    tree, target = builder.tree, path[1:]
    setuid = 0 if builder.spec.no_new_privileges else ops.SETUID
    tree.directory_in_layer(target)
    if builder.spec.read_only:
        tree.mounts.append(op(ops.BIND, target, path, flags=ops.RO | ops.RECURSIVE | setuid))
    else:
        tree.mounts.append(op(ops.OVERLAY, target, path, f"o{len(tree.mounts)}", setuid))


def has_all(trees: list[str], candidates: list[str]) -> bool:
    """Whether what is run can only be a program of this machine's own ``trees``."""
    homes = (*trees, "/bin", "/sbin")
    return all(
        "/../" not in name and any(name.startswith(f"{home}/") for home in homes) for name in candidates
    )
