"""Where this process stands in the cgroup trees of the machine: found once per process.

One tree per mounted hierarchy: cgroup v2, or one or several controllers of v1 (hybrid machines have
both). What is found is what the kernel says in /proc/self/cgroup and /proc/self/mountinfo; whether
a directory takes a child is learned by making one. Sources: cgroups(7), proc(5), the kernel's
Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Iterator

    from pyminicon.errors import LaunchError

#: The controllers that limits need, by their v2 name (v1 calls io "blkio").
CONTROLLERS = ("memory", "cpu", "cpuset", "pids", "io")

#: A cgroup for processes below one that has containers beside it.
LEAF = "pyminicon-leaf"

# What systemd calls the cgroups that it manages, besides the root of the tree.
_UNITS = (".slice", ".service", ".scope", ".socket", ".mount", ".swap")
_V1_NAMES = {"blkio": "io"}


class Tree:
    """One mounted hierarchy: its mount point, which part of it is mounted, where the caller is."""

    __slots__ = ("caller", "controllers", "mount", "root", "v2")

    def __init__(self, mount: str, root: str, caller: str, controllers: list[str], v2: bool) -> None:
        self.mount: str = mount  # "/sys/fs/cgroup/memory"
        self.root: str = root  # the cgroup that is seen at the mount point, "/" unless in a container
        self.caller: str = caller  # the caller's own cgroup, as /proc/self/cgroup names it
        self.controllers: list[str] = controllers  # v1 only; v2's are read where they are used
        self.v2: bool = v2

    @property
    def name(self) -> str:
        """The directory's name at /sys/fs/cgroup, as programs inside look for it; "" is the root."""
        if self.v2 and self.mount == "/sys/fs/cgroup":
            return ""
        return self.mount.rpartition("/")[2]

    def directory(self, cgroup: str) -> str | None:
        """Where ``cgroup`` (absolute in this tree) is in the file system; None when it isn't mounted."""
        if self.root == "/":
            return self.mount if cgroup == "/" else self.mount + cgroup
        if cgroup == self.root or cgroup.startswith(self.root + "/"):
            return self.mount + cgroup[len(self.root) :]
        return None


class Place:
    """A cgroup for containers.

    ``directory`` is where their cgroups go, ``top`` the highest one whose subtree_control is ours to write ("" for
    as far as it goes). ``leaf`` is a cgroup in which processes of ours may live ("" if there is none). ``how`` tells
    people why there. ``away`` is the unit and the path below it by which systemd moves a process of ours to the leaf,
    where the kernel doesn't let the caller be a parent in there; see csrc/parent/process/launcher.h.
    """

    __slots__ = ("away", "directory", "how", "launcher", "leaf", "top")

    def __init__(
        self, directory: str, how: str, *, top: str = "", leaf: str = "", away: tuple[str, str] | None = None
    ) -> None:
        self.directory: str = directory
        self.how: str = how
        self.top: str = top
        self.leaf: str = leaf
        self.away: tuple[str, str] | None = away
        self.launcher: int = 0  # the pid of the one that was moved

    def is_there(self) -> bool:
        """A scope whose last process has been killed is gone, with its directories."""
        return os.path.exists(f"{self.directory}/cgroup.procs")


class Trees:
    """All mounted hierarchies. ``v1``: controller -> Tree; ``v2``: the unified one or None."""

    __slots__ = ("_memory", "lock", "no_place", "pid", "place", "swept", "swept_own", "v1", "v2")

    def __init__(self, pid: int) -> None:
        self.pid: int = pid
        self.v1: dict[str, Tree] = {}
        self.v2: Tree | None = None
        self.swept: set[str] = set()
        self.swept_own: bool = False  # below the caller's own cgroup in every tree
        self._memory: int | None = 0
        self.place: Place | None = None  # place.find's, under the lock
        self.no_place: LaunchError | None = None
        self.lock: LockType = allocate_lock()

    def memory_above(self, size: int) -> int | None:
        """The memory limit (bytes) above the caller if it is less than ``size``, else None.

        Remembered, because reading memory.stat costs 20 us; read again before it refuses anything.
        """
        if self._memory is not None and size > self._memory:
            tree = self.v1.get("memory", self.v2)
            self._memory = memory_limit(tree) if tree else None
        return self._memory if self._memory is not None and size > self._memory else None

    def all(self) -> Iterator[Tree]:
        """Each tree once, also where several controllers share one."""
        seen = {tree.mount: tree for tree in self.v1.values()}
        if self.v2 is not None:
            seen[self.v2.mount] = self.v2
        return iter(seen.values())


def read(path: str) -> str:
    """The text of a small file of the kernel's; OSError as open(2) and read(2) raise it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def read_or(path: str, default: str) -> str:
    """:func:`read`, or ``default`` where the file can't be had."""
    try:
        return read(path)
    except OSError:
        return default


def _unescape(field: str) -> str:
    """A path of mountinfo's, where space, tab, newline and backslash are octal (proc(5))."""
    if "\\" not in field:
        return field
    head, *rest = field.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _mounts() -> Iterator[tuple[str, str, str, list[str]]]:
    """(file system type, root, mount point, super options) of the cgroup mounts."""
    for line in read_or("/proc/self/mountinfo", "").split("\n"):
        where, dash, what = line.partition(" - cgroup")
        if dash:
            fields, (kind, _, options) = where.split(" "), what.split(" ", 2)
            yield "cgroup" + kind, _unescape(fields[3]), _unescape(fields[4]), options.split(",")


def mounted_outside() -> bool:
    """Whether a cgroup tree is mounted from above this process's cgroup namespace, as after unshare(CLONE_NEWCGROUP):
    which of its directories are the caller's can't be told then (cgroup_namespaces(7))."""
    return any(root.startswith("/..") for _, root, _, _ in _mounts())


def find() -> Trees:
    """The trees of this machine as they are now, without the cache."""
    trees = Trees(os.getpid())
    places: dict[str, str] = {}
    for line in read_or("/proc/self/cgroup", "").split("\n"):
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(",") if names else ["unified"] if number == "0" else []:
            places[name] = path
    for kind, root, mount, options in _mounts():
        if kind == "cgroup2":
            caller = places.get("unified")
            tree = Tree(mount, root, caller or "/", [], True)
            if caller and trees.v2 is None and tree.directory(caller):
                trees.v2 = tree
            continue
        bound = [name for name in options if name in places and not name.startswith("name=")]
        for name in bound:
            tree = Tree(mount, root, places[name], bound, False)
            if tree.directory(places[name]):
                trees.v1.setdefault(_V1_NAMES.get(name, name), tree)
    return trees


_found: Trees | None = None
_first: dict[int, Trees] = {}  # by pid


_process = 0


def plan_for(pid: int) -> None:
    """From now on what this process plans is another's, which is its parent, to launch and to own."""
    global _process
    _process = pid


def process() -> int:
    """The process that owns what is planned here: this one, unless :func:`plan_for` has said otherwise."""
    return _process or os.getpid()


def trees() -> Trees:
    """The trees of this machine, found once per process (a forked child looks again).

    Without a lock, which might be held at a fork: of two threads that are first at the same time both look, and
    one's answer is everybody's, for the place is found in it.
    """
    global _found
    pid = os.getpid()
    if _found is None or _found.pid != pid:
        _found = _first.setdefault(pid, find())
    return _found


def chain(tree: Tree, directory: str) -> Iterator[str]:
    """``directory`` and the cgroups above it, as far up as they are mounted."""
    while True:
        yield directory
        if directory == tree.mount or len(directory) <= len(tree.mount):
            return
        directory = directory.rpartition("/")[0]


def common(tree: Tree, here: str, there: str) -> str:
    """The lowest cgroup that is above both, or one of them."""
    above = set(chain(tree, here))
    return next((path for path in chain(tree, there) if path in above), tree.mount)


def systemd_runs() -> bool:
    """sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def unit_of(tree: Tree, here: str) -> str:
    """The cgroup of the unit that ``here`` is in: a service's or scope's; "" in none."""
    for directory in chain(tree, here):
        if directory != tree.mount and directory.endswith((".service", ".scope")):
            return directory
    return ""


def is_delegated(unit: str) -> bool:
    """Whether systemd has given the unit's cgroup away (Delegate=), and it is the caller's to write."""
    if not os.access(f"{unit}/cgroup.subtree_control", os.W_OK, effective_ids=True):
        return False
    for name in (
        "user.delegate",
        "trusted.delegate",
    ):  # the first since systemd 251; the other only root reads
        try:
            if os.getxattr(unit, name) == b"1":
                return True
        except OSError:
            continue
    # An ordinary user's below what isn't: the unit was given to him, with User= and Delegate=.
    return os.geteuid() != 0 and not os.access(os.path.dirname(unit), os.W_OK, effective_ids=True)


def belongs_to_systemd(tree: Tree, directory: str) -> bool:
    """Whether systemd writes the controllers of ``directory``: what others write there it takes back."""
    name = os.path.basename(directory)
    if directory == tree.mount:
        return systemd_runs()
    # user@.service is delegated to the user's manager, and not to whoever asks.
    return name.endswith(_UNITS) and (name.startswith("user@") or not is_delegated(directory))


def caller_directory(tree: Tree) -> str:
    """The caller's own cgroup as a path in the file system."""
    return tree.directory(tree.caller) or tree.mount


def controllers(directory: str, file: str = "cgroup.controllers") -> set[str]:
    """The v2 controllers that ``file`` of ``directory`` lists; none where there is no such file."""
    return set(read_or(f"{directory}/{file}", "").split())


def is_root(directory: str) -> bool:
    """Whether ``directory`` is v2's real root, the one cgroup that may have processes and children
    with controllers. Every other has cgroup.type; the root of a cgroup namespace has it, too."""
    return not os.path.exists(f"{directory}/cgroup.type")


def memory_limit(tree: Tree) -> int | None:
    """The least memory limit (bytes) of the caller's own cgroup and those above; None if there is none."""
    here = caller_directory(tree)
    if not tree.v2:
        for line in read_or(f"{here}/memory.stat", "").split("\n"):
            if line.startswith("hierarchical_memory_limit "):
                return int(line.split(" ")[1])
        return None
    limits = (read_or(f"{directory}/memory.max", "max").strip() for directory in chain(tree, here))
    return min((int(limit) for limit in limits if limit.isdigit()), default=None)


def cpu_limit(tree: Tree) -> float | None:
    """The least CPU quota (in CPUs) above a container; v1 refuses a child that asks for more, v2
    takes it and lets the lesser one rule, so only v1 is asked."""
    least = None
    if not tree.v2:
        for directory in chain(tree, caller_directory(tree)):
            quota = read_or(f"{directory}/cpu.cfs_quota_us", "-1").strip()
            period = read_or(f"{directory}/cpu.cfs_period_us", "100000").strip()
            if quota.isdigit() and period.isdigit():
                share = int(quota) / int(period)
                least = share if least is None else min(least, share)
    return least
