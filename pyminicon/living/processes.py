"""What runs inside a container, as its caller sees it: by the caller's own procfs, of which nobody inside can change
a thing."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyminicon.living.asked import Box

_OURS = ("pyminicon-init", "pyminicon-work")
_MOST_READ = 1 << 20  # bytes of passwd


class ProcessInfo:
    """One process inside: ``pid`` and ``ppid`` as the container counts, ``user`` (a name of its passwd, else the
    uid), ``state`` (the letter of proc_pid_stat(5)), ``cpu_seconds``, ``resident_bytes``, ``command_line`` (a list)."""

    __slots__ = ("command_line", "cpu_seconds", "pid", "ppid", "resident_bytes", "state", "user")

    def __init__(self) -> None:
        self.pid: int = 0
        self.ppid: int = 0
        self.user: str = ""
        self.state: str = ""
        self.cpu_seconds: float = 0.0
        self.resident_bytes: int = 0
        self.command_line: list[str] = []

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in sorted(self.__slots__))
        return f"ProcessInfo({inside})"


def inside(box: Box, with_init: bool) -> list[ProcessInfo]:
    """By their pids; without our init (``with_init``: there is one) and its workers."""
    rows = _mapping(box.pid)
    names = _names(box)
    found: list[ProcessInfo] = []
    numbers = {box.pid: 1}
    program = _program(box.pid)
    for pid, parent in _tree(box.pid):
        try:
            one, comm = _looked_at(pid, rows, names)
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        numbers[pid] = one.pid
        one.ppid = numbers.get(parent, 0)
        if one.pid and not (with_init and _is_ours(pid, program, one.ppid in (0, 1) and comm in _OURS)):
            found.append(one)
    return sorted(found, key=lambda one: one.pid)


def _is_ours(pid: int, program: tuple[int, int] | None, by_name: bool) -> bool:
    """Whether it is init or a worker of its, which run init's own program: names anybody can give himself. ``by_name``
    is the answer for one that has just ended, or whose program the kernel doesn't tell."""
    its = _program(pid)
    return by_name if its is None or program is None else its == program


def _program(pid: int) -> tuple[int, int] | None:
    try:
        about = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _tree(first: int) -> Iterator[tuple[int, int]]:
    """(pid, parent), parents before their children: an orphan is its namespace's pid 1's, or a worker's."""
    waiting = [(first, 0)]
    seen = {first}
    while waiting:
        pid, parent = waiting.pop()
        yield pid, parent
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            for child in _children(f"/proc/{pid}/task/{thread}/children"):
                if child not in seen:
                    seen.add(child)
                    waiting.append((child, pid))


def _children(path: str) -> set[int]:
    """Read until there is nothing new: the kernel skips some where another of them ends meanwhile (proc(5))."""
    found: set[int] = set()
    for _ in range(10):
        before = len(found)
        found.update(map(int, _words(path)))
        if len(found) == before:
            break
    return found


def _words(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().split()
    except OSError:
        return []


def _looked_at(pid: int, rows: list[list[int]], names: dict[int, str]) -> tuple[ProcessInfo, str]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        head, _, rest = file.read().rpartition(b")")
    words = rest.split()
    one = ProcessInfo()
    one.state = words[0].decode()
    one.cpu_seconds = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    one.resident_bytes = int(words[21]) * os.sysconf("SC_PAGE_SIZE")
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                uid = _inner(int(line.split()[2]), rows)
                one.user = names.get(uid, str(uid))
            elif line.startswith(b"NSpid:"):
                one.pid = int(line.split()[2])
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        one.command_line = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    return one, os.fsdecode(head.partition(b"(")[2])


def _mapping(pid: int) -> list[list[int]]:
    words = [int(word) for word in _words(f"/proc/{pid}/uid_map")]
    return [words[at : at + 3] for at in range(0, len(words), 3)]


def outer_uid(pid: int, uid: int) -> int:
    """As this machine counts, of a user of the container whose pid 1 that is, for what he is to own."""
    rows = _mapping(pid)
    if not rows:
        return uid
    for inner, outer, count in rows:
        if inner <= uid < inner + count:
            return uid - inner + outer
    return os.geteuid()


def _inner(uid: int, rows: list[list[int]]) -> int:
    for inner, outer, count in rows:
        if outer <= uid < outer + count:
            return uid - outer + inner
    return 65534  # as the kernel shows who has no name inside


def _names(box: Box) -> dict[int, str]:
    from pyminicon.options import users

    try:
        return users.names(box._handle.read_inside("etc/passwd", _MOST_READ, 1.0))
    except OSError:
        return {}
