"""Who the program is inside, and how ids inside and outside go together."""

from __future__ import annotations

import os

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Where root's private user namespaces begin when /etc/subuid grants root nothing: above what
#: useradd(8) hands out and below the sign bit that old programs trip over.
ROOT_RANGE = 0x70000000


class Identity:
    """uid, gid and supplementary groups inside, and the home directory."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid: int = uid
        self.gid: int = gid
        self.groups: list[int] = groups
        self.home: str = home


def resolve(user: str, read: Callable[[str], bytes | None]) -> Identity:
    """``user`` ("uid[:gid]" or names) by the image's own passwd and group, read with ``read``.

    A uid without an entry has gid 0 and home /, as docker has it. Raises SpecError for a name that isn't
    there.
    """
    name, _, group = user.partition(":")
    entry = _find(read("etc/passwd"), name)
    if entry is None and not _is_id(name):
        raise SpecError("user", f"{name!r} is not in the image's /etc/passwd")
    uid = int(entry[2]) if entry else int(name)
    gid = int(entry[3]) if entry and _is_id(entry[3]) else 0
    home = entry[5] if entry and len(entry) > 5 and entry[5].startswith("/") else "/"
    groups: list[int] = []
    if group:
        found = _find(read("etc/group"), group)
        if found is None and not _is_id(group):
            raise SpecError("user", f"{group!r} is not in the image's /etc/group")
        gid = int(found[2]) if found else int(group)
    elif entry:
        groups = _memberships(read("etc/group"), entry[0], gid)
    return Identity(uid, gid, groups, home)


def resolve_all(
    user: str | None, group: str | None, extra: Sequence[str], read: Callable[[str], bytes | None]
) -> Identity:
    """The same with a group and further ones of their own, as subprocess has them; without a user: root."""
    if group is not None and user is not None and ":" in user:
        raise SpecError("group", f"is in the user {user!r} already")
    who = resolve(user or "0", read)
    home, groups = who.home if user else "/root", who.groups
    gid = _group_id("group", group, read) if group is not None else who.gid
    groups = sorted({*groups, *(_group_id("extra_groups", name, read) for name in extra)})
    return Identity(who.uid, gid, groups, home)


def _group_id(option: str, name: str, read: Callable[[str], bytes | None]) -> int:
    found = _find(read("etc/group"), name)
    if found is None and not _is_id(name):
        raise SpecError(option, f"{name!r} is not in the image's /etc/group")
    return int(found[2]) if found else int(name)


def names(table: bytes | None) -> dict[int, str]:
    """{uid: name} of a passwd file, the first of each."""
    found: dict[int, str] = {}
    for row in _rows(table):
        if len(row) > 3 and _is_id(row[2]):
            found.setdefault(int(row[2]), row[0])
    return found


def _rows(table: bytes | None) -> list[list[str]]:
    lines = (table or b"").decode("utf-8", "surrogateescape").split("\n")
    return [line.split(":") for line in lines if line and not line.startswith("#")]


def _is_id(text: str) -> bool:
    # The length first: int() refuses thousands of digits.
    return len(text) <= 10 and text.isascii() and text.isdigit() and int(text) < 4294967295


def _find(table: bytes | None, key: str) -> list[str] | None:
    """The first row whose name is ``key``, else the first whose id is."""
    rows = [row for row in _rows(table) if len(row) > 3 and _is_id(row[2])]
    for row in rows:
        if row[0] == key:
            return row
    for row in rows:
        if _is_id(key) and int(row[2]) == int(key):
            return row
    return None


def _memberships(table: bytes | None, name: str, gid: int) -> list[int]:
    found = [
        int(row[2]) for row in _rows(table) if len(row) > 3 and _is_id(row[2]) and name in row[3].split(",")
    ]
    return sorted(set(found) - {gid})


def id_ranges(option: str, words: str) -> list[tuple[int, int, int]]:
    """``"uid:host:count[,…]"`` as a list of (inside, outside, count). Raises SpecError."""
    ranges = []
    for word in words.split(","):
        parts = word.split(":")
        if len(parts) != 3 or not all(_is_id(part) for part in parts):
            raise SpecError(option, "takes 'auto', 'host', 'private' or 'uid:host:count[,…]'")
        inside, outside, count = (int(part) for part in parts)
        if count == 0 or inside + count > 4294967295 or outside + count > 4294967295:
            raise SpecError(option, f"{word}: the range is empty or ends above the last id")
        ranges.append((inside, outside, count))
    if not any(inside <= 0 < inside + count for inside, _, count in ranges):
        raise SpecError(option, "id 0 must be in one of the ranges: the set-up runs as root inside")
    return ranges


def subordinate_range(path: str) -> tuple[int, int] | None:
    """The caller's first range in /etc/subuid or /etc/subgid (subuid(5)), as (start, count)."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except OSError:
        return None
    names = {str(os.geteuid()), _login_name()}
    for line in lines:
        parts = line.strip().split(":")
        if len(parts) == 3 and parts[0] in names and _is_id(parts[1]) and _is_id(parts[2]) and int(parts[2]):
            return int(parts[1]), int(parts[2])
    return None


def _login_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
