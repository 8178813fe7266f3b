"""The images ``host`` and ``python``: this machine's programs, none of its data.

Its /etc is there by a rule: what any user of this machine may read, less what is a secret or this machine's own
affair by its name (csrc/parent/plan/hidden.cc; docs/security.md has the list).
"""

from __future__ import annotations

import _thread
import errno
import os
import stat
import time

from pyminicon import plan as ops
from pyminicon.errors import insist
from pyminicon.plan import op, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon._core import Hidden
    from pyminicon.plan import Draft

#: What root of a private user namespace may write to as well: the files themselves belong to nobody there.
FILES = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "localtime", "timezone", "profile", "services")

#: Each container has its own, or none.
_OWN = ("etc/hosts", "etc/hostname", "etc/resolv.conf")

_MOST = 1 << 20  # bytes of one file: ld.so.cache is tens of KiB

# When this machine's /etc was last looked through and what for; what was found there, and as the rows of a plan: the
# directories with something hidden in them (path, mode, uid, gid), and what is hidden.
_seen: tuple[float, tuple[str, ...], Hidden, list[tuple[str, int, int, int]], list[str]] | None = None


#: Whether the kernel tells of changes there: not where its watches for this user are used up.
_told = True


def hidden_etc(shown: tuple[str, ...], once: bool) -> tuple[list[tuple[str, int, int, int]], list[str]]:
    """What of this machine's /etc isn't shown. It is looked through (2 to 3 ms) when the kernel says that something has
    changed there (inotify(7)); where it can't, once a second and when a name comes or goes, which costs 0.2 ms a
    launch. ``once``: by whoever won't ask again."""
    known = _known(shown)
    if known is not None:
        return known
    # One at a time has the watch handed on; whoever comes meanwhile looks for himself alone.
    mine = _looking.acquire(blocking=False)
    try:
        known = _known(shown) if mine else None
        return known or _look(shown, mine and _told and not once, mine)
    finally:
        if mine:
            _looking.release()


_looking = _thread.allocate_lock()


def _renew_lock() -> None:
    """Another thread may have had it when this process was forked."""
    global _looking
    _looking = _thread.allocate_lock()


os.register_at_fork(after_in_child=_renew_lock)


def _known(shown: tuple[str, ...]) -> tuple[list[tuple[str, int, int, int]], list[str]] | None:
    seen = _seen
    if seen is None or seen[1] != shown:
        return None
    fresh = seen[2].watched or (not _told and time.monotonic() - seen[0] <= 1.0)
    return (seen[3], seen[4]) if fresh and seen[2].holds() else None


def _look(
    shown: tuple[str, ...], watch: bool, keep: bool
) -> tuple[list[tuple[str, int, int, int]], list[str]]:
    global _seen, _told
    from pyminicon import _core

    now = time.monotonic()
    found = _core.Hidden("/etc", shown, _seen[2] if watch and _seen else None, watch)
    rows = found.rows
    above = [(f"etc/{path}", mode, uid, gid) for path, whole, mode, uid, gid in rows if not whole]
    hidden = [f"etc/{path}" for path, whole, *_ in rows if whole]
    if keep:
        _told = found.watched or not watch
        _seen = (now, shown, found, above, hidden)
    return above, hidden


def _entry(name: str) -> tuple[str, str | None, bytes, int] | None:
    # By descriptor: a file object costs more than all its system calls, and there are twenty of them.
    path = f"/etc/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        insist(error, path)
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
    mounted = _mount_points(builder.private_users)
    for path in trees:
        below = [point for point in mounted if point.startswith(f"{path}/")]
        if below and builder.private_users and not builder.spec.read_only:
            _mount_in_parts(builder, path, below)
            continue
        _mount_at_its_own_path(builder, path)
        if not builder.spec.read_only:  # else they have come along
            for point in below:
                _bind(builder, point)
    for path in builder.plan.rootfs.files:
        with open(path, "rb") as file:
            tree.put(path[1:], file.read(_MOST), 0o644)
    _mount_etc(builder, builder.private_users and any(point.startswith("/etc/") for point in mounted))


def _mount_etc(builder: Draft, has_mounts: bool) -> None:
    """This machine's /etc beneath what the private layer has there: what is hidden, and the container's own."""
    tree = builder.tree
    above, hidden = hidden_etc(tuple(builder.spec.host_etc), builder.once)
    for path, mode, uid, gid in above:
        owner = (0, 0) if builder.private_users else (uid, gid)
        tree.skeleton.append(op(ops.DIR, path, mode=mode, uid=owner[0], gid=owner[1]))
        tree.made.add(path)
    for path in dict.fromkeys([*hidden, *_OWN]):
        tree.skeleton.append(ops.whiteout(path))
    if has_mounts:
        _take_apart(builder)
        return
    if builder.private_users:
        for name in FILES:
            _copy(builder, name)
    flags = ops.SKELETON | (ops.RO if builder.spec.read_only else 0)
    tree.mounts.append(op(ops.OVERLAY, "etc", "/etc", "etc", flags))


# When it was last looked where something is mounted, and what was found.
_mounted: tuple[float, list[str]] | None = None


def _mount_points(now: bool) -> list[str]:
    """Where something is mounted in directories of the image, an inner one after its outer; ``now``: else what was so
    a second ago will do. A layer shows what mounts cover, and in a user namespace the kernel makes none of a
    directory with mounts in it: WSL has such in /usr, containers in /etc."""
    global _mounted
    if now or _mounted is None or time.monotonic() - _mounted[0] > 1.0:
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                points = {line.split(" ", 5)[4] for line in file}
        except OSError as error:
            insist(error, "/proc/self/mountinfo")
            points = set()
        _mounted = time.monotonic(), sorted(points)
    return _mounted[1]


#: Directories of /etc that programs can't do without, where it can't be had as a whole.
_TREES = (
    "alternatives",
    "ssl",
    "pki",
    "crypto-policies",
    "fonts",
    "pam.d",  # with security and skel: adduser, chfn, su
    "profile.d",
    "security",
    "skel",
    "xdg",
    "chromium",
    "chromium.d",
)


def _take_apart(builder: Draft) -> None:
    """The kernel gives an ordinary user no directory without the mounts in it: its files one by one, and the
    directories that are needed most."""
    tree = builder.tree
    gone = {row[3] for row in tree.skeleton if row[0] == ops.SYMLINK and row[2] is None}
    with os.scandir("/etc") as entries:
        found = sorted((one for one in entries if f"etc/{one.name}" not in gone), key=lambda one: one.name)
    directories = [one.name for one in found if one.is_dir(follow_symlinks=False) and _is_needed(one.name)]
    kept = tuple(f"etc/{name}/" for name in directories)
    for row in tree.skeleton[:]:
        # What is hidden in what isn't there at all.
        path = os.fsdecode(row[3] or "")
        if path.startswith("etc/") and not f"{path}/".startswith(kept):
            tree.skeleton.remove(row)
            tree.made.discard(path)
    for one in found:
        if not one.is_dir(follow_symlinks=False):
            _copy(builder, one.name)
    flags = ops.SKELETON | (ops.RO if builder.spec.read_only else 0)
    for name in directories:
        tree.directory_in_layer(f"etc/{name}")
        tree.mounts.append(op(ops.OVERLAY, f"etc/{name}", f"/etc/{name}", f"etc-{name:.40}", flags))


def _is_needed(name: str) -> bool:
    return name in _TREES or name.startswith("java")


def _copy(builder: Draft, name: str) -> None:
    found = _entry(name)
    if found is None:
        return
    _, link, data, mode = found
    if link is not None:
        builder.tree.skeleton.append(op(ops.SYMLINK, f"etc/{name}", source=link))
    else:
        builder.tree.skeleton.append(op(ops.FILE, f"etc/{name}", data=data, mode=mode))


def _mount_at_its_own_path(builder: Draft, path: str) -> None:
    """A directory of this machine: below a private layer, or read-only."""
    tree, target = builder.tree, path[1:]
    tree.directory_in_layer(target)
    if builder.spec.read_only:
        _bind(builder, path)
    else:
        setuid = 0 if builder.spec.no_new_privileges else ops.SETUID
        tree.mounts.append(op(ops.OVERLAY, target, path, f"o{len(tree.mounts)}", setuid))


def _bind(builder: Draft, path: str) -> None:
    """Something of this machine read-only, with what is mounted in it."""
    setuid = 0 if builder.spec.no_new_privileges else ops.SETUID
    builder.tree.mounts.append(op(ops.BIND, path[1:], path, flags=ops.RO | ops.RECURSIVE | setuid))


def _mount_in_parts(builder: Draft, path: str, mounted: list[str]) -> None:
    """The same of a directory with mounts somewhere below: what it has, one by one, and read-only with its mounts
    what they lie in."""
    tree, target = builder.tree, path[1:]
    tree.directory_in_layer(target)
    with os.scandir(path) as entries:
        found = sorted(entries, key=lambda one: one.name)
    for one in found:
        inner = f"{target}/{one.name}"
        if one.is_symlink():
            tree.skeleton.append(op(ops.SYMLINK, inner, source=os.readlink(one.path)))
        elif not one.is_dir():
            tree.skeleton.append(op(ops.FILE, inner))
            _bind(builder, one.path)
        elif any(f"{point}/".startswith(f"{one.path}/") for point in mounted):
            tree.directory_in_layer(inner)
            _bind(builder, one.path)
        else:
            _mount_at_its_own_path(builder, one.path)


def has_all(trees: list[str], candidates: list[str]) -> bool:
    """Whether what is run can only be a program of this machine's own ``trees``."""
    homes = (*trees, "/bin", "/sbin")
    return all(
        "/../" not in name and any(name.startswith(f"{home}/") for home in homes) for name in candidates
    )
