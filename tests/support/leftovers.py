"""What a container could leave behind in this process and on this machine, counted before and after.

The reaper process and the memory it shares with us belong to the process, not to a container: they are made
by the first launch, before the first count (``conftest.warm``).
"""

from __future__ import annotations

import fcntl
import gc
import os
import tempfile
import time
from pathlib import Path

#: A killed process is a zombie for a moment, a cgroup is busy until its last task has been buried.
PATIENCE = 20.0  # seconds


def descriptors() -> set[str]:
    """The open descriptors of this process as "number -> what it is"."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # the listing's own
            continue
    return found


def mounts() -> set[str]:
    """Mounts of this mount namespace: "id mount point type"; not those of other programs' playgrounds."""
    ours = tempfile.gettempdir() + "/pytest-"
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        number, where = head.split()[0], head.split()[4]
        if where.startswith(ours) or not where.startswith(("/tmp/", "/var/tmp/")):
            found.add(f"{number} {where} {tail.split()[0]}")
    return found


def cgroups() -> set[str]:
    """Cgroup directories that containers of this process have, but for those that all share on v1 as long as it lives."""
    mark = f"-{os.getpid()}-"
    found = set()
    for root, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if name.startswith("pyminicon-") and mark in name and not name.endswith("-0"):
                found.add(os.path.join(root, name))
    return found


def _candidates() -> list[str]:
    """Pids among which the children are: the kernel's own list where it keeps one (CONFIG_PROC_CHILDREN)."""
    pids: list[str] = []
    for task in os.listdir("/proc/self/task"):
        try:
            pids += Path(f"/proc/self/task/{task}/children").read_text().split()
        except FileNotFoundError:
            return [name for name in os.listdir("/proc") if name.isdigit()]
        except ProcessLookupError:  # the thread has ended
            continue
    return pids


def children() -> set[str]:
    """Processes whose parent is this one, zombies included: pids, for exec changes a name after it closed what tells
    of it."""
    found = set()
    me = str(os.getpid())
    for pid in _candidates():
        try:
            text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        rest = text.rpartition(")")[2]
        if rest.split()[1] == me:
            found.add(f"{pid} (zombie)" if rest.split()[0] == "Z" else pid)
    return found


def scratch() -> set[str]:
    """Writable layers on disk that nobody holds locked: another's, who is at work, are his affair."""
    from pyminicon.images.lookup import store_path

    place = os.path.join(store_path(), "scratch")
    try:
        return {
            path
            for name in os.listdir(place)
            if name.startswith("layer-") and _is_free(path := os.path.join(place, name))
        }
    except FileNotFoundError:
        return set()


def _is_free(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def _named(entry: str) -> str:
    try:
        return f"{entry} {Path(f'/proc/{entry.split(maxsplit=1)[0]}/comm').read_text().strip()}"
    except OSError:
        return entry


def count() -> dict[str, set[str]]:
    return {
        "descriptors": descriptors(),
        "mounts": mounts(),
        "cgroups": cgroups(),
        "processes": children(),
        "scratch directories": scratch(),
    }


def appeared(before: dict[str, set[str]]) -> dict[str, list[str]]:
    """What is there now and wasn't, after as much patience as a kernel needs to bury the dead."""
    gc.collect()  # a traceback that was caught holds its frames, and they what they had open
    deadline = time.monotonic() + PATIENCE
    while True:
        new = {kind: sorted(now - before[kind]) for kind, now in count().items() if now - before[kind]}
        if not new or time.monotonic() > deadline:
            return {
                kind: [_named(one) for one in found] if kind == "processes" else found
                for kind, found in new.items()
            }
        time.sleep(0.02)
