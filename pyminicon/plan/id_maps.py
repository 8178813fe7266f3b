"""The id maps of a user namespace: what is more than the one id of whoever starts it."""

from __future__ import annotations

import os

from pyminicon.errors import SpecError
from pyminicon.options import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from pyminicon.plan import Draft, Ranges

    Table: TypeAlias = list[tuple[int, int, int]]


def map_ranges(builder: Draft) -> None:
    """Has the parent write the maps of the ranges that there are, and the child its own id's where there are none."""
    ranges = builder.ranges = _ranges(builder)
    if ranges is None:
        builder.map_own_id()
        return
    builder.has_tty_group = any(a <= 5 < a + n for a, _, n in ranges[1])
    fields = builder.fields
    fields["become_root"] = True
    fields["uid_map"], fields["gid_map"] = (_lines(table) for table in ranges)
    if os.geteuid() != 0:
        fields["uid_mapper"], fields["gid_mapper"] = _mapper("uid", ranges[0]), _mapper("gid", ranges[1])


_LAST_GROUP = 0x7FFFFFFF  # the last that the kernel takes there


def mapped_groups(builder: Draft) -> str:
    """Groups that have a name in the user namespace, as a range (net.ipv4.ping_group_range): the kernel takes no others
    for its ends."""
    rows = builder.ranges[1] if builder.ranges is not None else _whole("/proc/self/gid_map")
    return range_of(rows)


def range_of(rows: Table) -> str:
    """The widest range that the kernel takes: whose ends are the right way round inside and outside."""
    rows = sorted(rows, key=lambda row: row[1])
    first, last = rows[0][0], rows[-1][0] + rows[-1][2] - 1
    if first > last:
        first, _, count = max(rows, key=lambda row: row[2])
        last = first + count - 1
    return f"{first} {min(last, _LAST_GROUP)}"


def _lines(table: Table) -> str:
    return "".join(f"{a} {b} {n}\n" for a, b, n in table)


def _mapper(kind: str, table: Table) -> list[str]:
    return [f"/usr/bin/new{kind}map", *(str(number) for row in table for number in row)]


def _ranges(builder: Draft) -> Ranges | None:
    userns = builder.spec.userns
    if isinstance(userns, list):
        who = (builder.uid, builder.gid)
        if builder.rootless and userns == [(0, os.geteuid(), 1)] and who == (0, 0):
            return None  # the one map that needs no other's power
        if os.geteuid() != 0 and not _has_mappers():
            raise SpecError("userns", "ranges need newuidmap and newgidmap: install the package uidmap")
        return userns, userns
    if not builder.rootless:
        start, count = users.subordinate_range("/etc/subuid") or (users.ROOT_RANGE, 65536)
        return [(0, start, count)], [(0, start, count)]
    if os.geteuid() == 0:
        return _handed_on()
    uids, gids = (users.subordinate_range(f"/etc/sub{kind}") for kind in ("uid", "gid"))
    if uids is None or gids is None or not _has_mappers():
        return None
    return (
        [(0, os.geteuid(), 1), (1, uids[0], uids[1])],
        [(0, os.getegid(), 1), (1, gids[0], gids[1])],
    )


def _handed_on() -> Ranges | None:
    """All ids that root of a user namespace has, or root without CAP_SYS_ADMIN: under the numbers they have here.

    None where there is but one, or what it takes to map others is missing: the child maps its own then.
    """
    setgid, setuid, setfcap = 6, 7, 31  # the last to map 0, since Linux 5.12
    with open("/proc/self/status") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    uids, gids = (_whole(f"/proc/self/{kind}_map") for kind in ("uid", "gid"))
    if not all(effective >> bit & 1 for bit in (setgid, setuid, setfcap)) or sum(row[2] for row in uids) < 2:
        return None
    return uids, gids


def _whole(path: str) -> list[tuple[int, int, int]]:
    with open(path) as file:
        rows = [[int(word) for word in line.split()] for line in file]
    return [(inside, inside, count) for inside, _, count in rows]


def _has_mappers() -> bool:
    return os.path.exists("/usr/bin/newuidmap") and os.path.exists("/usr/bin/newgidmap")
