"""Limits and accounting: from the options of a launch to the cgroups it needs.

:func:`check` says whether the options can be meant (it needs no privileges and makes nothing),
:func:`plan` turns them into what csrc/parent/cgroup/cgroup.h carries out: directories to make, one in each
tree that is needed, and files to write in them. cgroup v2, v1 and both at once (hybrid) differ only
here and in the modules cgroup_*. Sources: cgroups(7), the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

import errno
import os

from pyminicon.cgroups import sweep as cgroup_sweep
from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups.files import limit_files, refuse
from pyminicon.cgroups.limits import Limits, check, check_cpuset
from pyminicon.cgroups.v2 import DENIED, MOUNT_ANEW, check_migration, enable, oom_group_above
from pyminicon.errors import LaunchError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cgroups.tree import Tree, Trees

    #: parent directory, name at /sys/fs/cgroup, roles, whether it must be
    Directory = tuple[bytes, bytes, int, bool]
    #: index of the directory, file, value, whether the file may be missing
    Write = tuple[int, bytes, bytes, bool]
    #: prefix of the names, directories, writes, what helps where a directory is refused, whether to
    #: watch for the OOM killer, whether a child that shares the caller's memory must not be in there,
    #: where freeze() makes a cgroup if none of these can freeze, whether that one is v2's, whether the
    #: launcher is the one who may be a parent in there
    Plan = tuple[bytes, list[Directory], list[Write], bytes, bool, bool, bytes, bool, bool]
    #: role of the directory, file, value
    Change = tuple[int, bytes, bytes]

__all__ = ["Limits", "check", "plan", "plan_clock", "plan_update"]

# What a directory is for; csrc/parent/cgroup/cgroup.h has the same numbers.
MEMORY, CPU, CPUSET, PIDS, IO, CPU_TIME, FREEZER, V2, DEVICES, SHOWN, SHARED = (1 << bit for bit in range(11))
# What a container may open wherever it finds or makes the node: docker's list. Nodes it may make of any kind.
_DEVICES = (
    ("deny", "a"),
    ("allow", "c *:* m"),
    ("allow", "b *:* m"),
    *(("allow", f"c {device} rw") for device in "1:3 1:5 1:7 1:8 1:9 5:0 5:1 5:2 136:*".split()),
)
# What the JVM must find on v1, each as a directory of the container's own, or it believes in none of its limits; Go,
# .NET and libuv look for some of them.
_LOOKED_FOR = ("memory", "cpu", "cpuacct", "cpuset")
_ROLES = {"memory": MEMORY, "cpu": CPU, "cpuset": CPUSET, "pids": PIDS, "io": IO}
_V1_HELPERS = {"cpuacct": CPU_TIME, "freezer": FREEZER}


def plan(limits: Limits | None, dry: bool = False) -> Plan | None:
    """What the launch has to make, for csrc/parent/cgroup/cgroup.h; None when no cgroup is needed.

    The first call in a process sweeps what dead owners left. Raises :class:`LaunchError` (stage
    "cgroup") for a limit that can't be applied here, with why and what helps, and
    :class:`SpecError` for a ``cgroup_parent`` or a ``cpuset`` that the cgroup above can't give.
    """
    if limits is None:
        return None
    return _carried_out(_Builder(cgroup_tree.trees(), limits, dry))


def _carried_out(builder: _Builder) -> Plan | None:
    builder.choose()
    late_freezer, late_freezer_v2 = builder.late_freezer()
    above = [late_freezer] if late_freezer else []
    if not builder.dry:
        cgroup_sweep.sweep(builder.trees, above + [os.fsdecode(entry[0]) for entry in builder.directories])
    builder.write_limits()
    if not builder.directories:
        return None  # usage=True where there is no tree: what the kernel can't tell is None
    return (
        os.fsencode(cgroup_sweep.owner()),
        builder.directories,
        builder.writes,
        DENIED.encode(),
        builder.limits.memory is not None,
        builder.shared_memory_is_unsafe,
        os.fsencode(late_freezer),
        late_freezer_v2,
        builder.by_launcher,
    )


def plan_clock() -> Plan:
    """What counts the processor time of one command, in a container whose own cgroup doesn't count.

    It is joined while the container runs, for which v1 makes nobody wait, so on hybrid machines it is v1's. Raises
    :class:`SpecError` where the container has to be started with a cgroup, or as :func:`plan` does.
    """
    limits = check(need_cpu_time=True)
    assert limits is not None
    trees = cgroup_tree.trees()
    builder = _Builder(trees, limits, False)
    if builder._may_use(trees.v1.get("cpuacct")):
        builder.prefers_v2 = False
    made = _carried_out(builder)
    assert made is not None
    if made[-1]:
        raise SpecError(
            "cpu_time",
            "of one command takes a container with a limit or usage=True here: what runs in a login session can't be moved",
        )
    return made


def plan_update(limits: Limits) -> list[Change]:
    """The writes that change the limits of a running container to ``limits`` (as from :func:`check`).

    Limits that ``limits`` doesn't name stay as they are. As at the start, ``memory`` without
    ``memory_swap`` means that nothing is swapped out.
    """
    trees = cgroup_tree.trees()
    changes = []
    for controller in sorted(limits.required()):
        tree = trees.v1.get(controller, trees.v2)
        if tree is None:
            refuse(errno.EOPNOTSUPP, controller, "no cgroup tree with this controller is mounted here")
        for file, value, _ in limit_files(limits, controller, tree, cgroup_tree.caller_directory(tree)):
            changes.append((_ROLES[controller], file.encode(), value.encode()))
    return changes


class _Builder:
    """One plan on its way: which directories, with which roles, and what is written where."""

    __slots__ = (
        "by_launcher",
        "directories",
        "dry",
        "index",
        "limits",
        "prefers_v2",
        "shared_memory_is_unsafe",
        "trees",
        "writes",
    )

    def __init__(self, trees: Trees, limits: Limits, dry: bool) -> None:
        self.trees = trees
        self.dry = dry
        self.limits = limits
        self.directories: list[Directory] = []
        self.writes: list[Write] = []
        self.index: dict[str, int] = {}
        self.shared_memory_is_unsafe = False
        self.by_launcher = False
        # Whether CPU time, freezing and killing come from v2 where v1 has them, too. They cost one
        # directory there and need no controller; but an ordinary user may have only v1 delegated.
        self.prefers_v2 = self._may_use(trees.v2) if trees.v1 else trees.v2 is not None

    def _may_use(self, tree: Tree | None) -> bool:
        parent = parent_directory(self.trees, tree, self.limits.parent) if tree else None
        return parent is not None and os.access(parent, os.W_OK, effective_ids=True)

    def choose(self) -> None:
        """Decide on the directories: as few as will do, each costs about 0.04 ms. v2's comes first,
        because whoever kills by the first directory then finds cgroup.kill there."""
        required = self.limits.required()
        wished = {"memory", "pids", "io"} - required if self.limits.usage else set()
        unified = (required | wished) - set(self.trees.v1)
        if (missing := sorted(required & unified)) and self.trees.v2 is None:
            hidden = cgroup_tree.mounted_outside()
            hint = MOUNT_ANEW if hidden else "no cgroup tree with this controller is mounted here"
            refuse(errno.EOPNOTSUPP, missing[0], hint)
        clock = self.limits.usage or self.limits.cpu_time
        if self.trees.v2 is not None and (missing or (self.prefers_v2 and not self._counts_on_v1(unified))):
            if unified or clock or self.limits.kill:
                self._take_v2(self.trees.v2, required & unified, wished & unified)
        else:
            self._take_v1_helpers(clock)
        if self.limits.devices:
            self._hold_devices()
        for controller in sorted(required | wished):
            if tree := self.trees.v1.get(controller):
                self._add(tree, _ROLES[controller], controller in required)
        if self.limits.parent is not None:
            self._join_parent(self.limits.parent)
        if required & {"memory", "cpu", "cpuset"}:
            self._show_limits()

    def _counts_on_v1(self, unified: set[str]) -> bool:
        """Whether v1 counts a container's CPU time though v2 could. Each command joins a cgroup of its own: on v1 at
        once, on v2 behind a lock that waits for a grace period of the kernel's."""
        limits = self.limits
        if not limits.lives or unified or limits.kill or limits.parent is not None:
            return False
        return self._may_use(self.trees.v1.get("cpuacct"))

    def _join_parent(self, parent: str) -> None:
        """A cgroup that is named holds its limits only in the trees where the container is below it: in
        every one that has it, whatever else needs a directory there."""
        unified = self.trees.v2
        if unified is not None and unified.mount not in self.index and self.prefers_v2:
            self._take_v2(unified, set(), set())
        for controller, tree in self.trees.v1.items():
            if parent_directory(self.trees, tree, parent) is not None:
                self._add(tree, _ROLES.get(controller, _V1_HELPERS.get(controller, 0)), True)
        if not self.directories:
            raise SpecError("cgroup_parent", f"there is no cgroup {parent!r} here; make it first, with mkdir")

    def _show_limits(self) -> None:
        """Runtimes read their size from /sys/fs/cgroup, where v1's controllers are trees of their own.

        Where nothing tells one container's from another's all of this process's have the same: making and removing
        each takes as long as a limit does.
        """
        shared = 0 if self.limits.apart else SHARED
        roles = _ROLES | _V1_HELPERS | {"cpu": SHOWN | shared}
        for controller in _LOOKED_FOR:
            tree = self.trees.v1.get(controller)
            if tree is None or tree.mount in self.index:
                continue
            if controller == "cpuset" and shared and _is_whole(tree):
                self._add(tree, shared, False)
            else:
                self._add(tree, roles[controller], False)

    def _hold_devices(self) -> None:
        """v1 has a controller for it; on v2 the core attaches a program to the directory with this role."""
        tree = self.trees.v1.get("devices", self.trees.v2)
        if tree is None:
            hint = "no cgroup tree is mounted here to hold CAP_SYS_ADMIN off the devices"
            refuse(errno.EOPNOTSUPP, "devices", hint)
        self._add(tree, DEVICES | (V2 | FREEZER | CPU_TIME if tree.v2 else 0), True)
        if not tree.v2:
            at = self.index[tree.mount]
            for file, rule in _DEVICES:
                self.writes.append((at, f"devices.{file}".encode(), rule.encode(), False))

    def _take_v1_helpers(self, clock: bool) -> None:
        if clock and (tree := self.trees.v1.get("cpuacct")):
            self._add(tree, CPU_TIME, self.limits.cpu_time)
        elif self.limits.cpu_time:
            refuse(errno.EOPNOTSUPP, "cpuacct", "no cgroup tree that counts CPU time is mounted here")
        if self.limits.kill:
            # The freezer stops a fork bomb while it is killed; pids can forbid it to grow.
            name = "freezer" if "freezer" in self.trees.v1 else "pids"
            if name not in self.trees.v1:
                refuse(errno.EOPNOTSUPP, name, "no cgroup tree is mounted here to kill the container by")
            self._add(self.trees.v1[name], FREEZER if name == "freezer" else PIDS, True)

    def _take_v2(self, tree: Tree, required: set[str], wished: set[str]) -> None:
        named = self.limits.parent is not None
        needed = bool(required) or self.limits.kill or self.limits.cpu_time or named
        parent = self._parent(tree, needed)
        if parent is None:
            return
        roles = V2 | FREEZER | CPU_TIME
        place = None if named else self.trees.place
        top = place.top if place is not None else ""
        enabled = required | wished if self.dry else enable(tree, parent, required, wished, top)
        for controller in enabled & set(_ROLES) - set(self.trees.v1):
            roles |= _ROLES[controller]
        if place is not None and place.away is not None and not self.dry:
            from pyminicon.cgroups import systemd

            try:
                systemd.attach(self.trees, place)
            except LaunchError:
                if needed:
                    raise
                return
            self.by_launcher = True
        elif needed and os.geteuid() != 0 and not self.dry:
            check_migration(tree, parent)
        self.shared_memory_is_unsafe = oom_group_above(tree, parent)
        self._add(tree, roles, needed)

    def _parent(self, tree: Tree, required: bool) -> str | None:
        """Where this container's directory goes in ``tree``; None where it goes without."""
        if self.dry and self.limits.parent is None and tree.v2 and not self.trees.v1:
            from pyminicon.cgroups import place

            return place.foreseen(self.trees)
        try:
            parent = parent_directory(self.trees, tree, self.limits.parent, required)
        except LaunchError:
            if required:
                raise
            return None
        if parent is None and required:
            wanted = f"no cgroup {self.limits.parent!r} in {tree.mount}; make it first, with mkdir"
            raise SpecError("cgroup_parent", wanted)
        return parent

    def _add(self, tree: Tree, roles: int, required: bool) -> None:
        """Add a directory in ``tree``, or further roles to the one that is there already."""
        parent = self._parent(tree, required)
        if parent is None:
            return
        at = self.index.setdefault(tree.mount, len(self.directories))
        if at == len(self.directories):
            self.directories.append((os.fsencode(parent), tree.name.encode(), roles, required))
        else:
            where, name, before, must = self.directories[at]
            self.directories[at] = (where, name, roles | before, required or must)

    def late_freezer(self) -> tuple[str, bool]:
        """Where a cgroup that freezes goes, made only if it is asked for, and whether it is v2's."""
        tree = self.trees.v2 if self.prefers_v2 else self.trees.v1.get("freezer")
        parent = self._parent(tree, False) if tree else None
        return parent or "", bool(tree and tree.v2)

    def write_limits(self) -> None:
        """Every limit as a write to a file of the directory that has its controller."""
        for controller in sorted(self.limits.required()):
            tree = self.trees.v1.get(controller, self.trees.v2)
            assert tree is not None
            at = self.index[tree.mount]
            parent = os.fsdecode(self.directories[at][0])
            for file, value, optional in limit_files(self.limits, controller, tree, parent):
                self.writes.append((at, file.encode(), value.encode(), optional))
            if controller == "cpuset":
                file = "cpuset.cpus.effective" if tree.v2 else "cpuset.cpus"
                allowed = cgroup_tree.read_or(f"{parent}/{file}", "").strip()
                check_cpuset(self.limits.cpuset, allowed, "what the cgroup above has")
        cpuset = self.trees.v1.get("cpuset")
        if self.limits.cpuset is None and cpuset is not None and cpuset.mount in self.index:
            self._copy_cpuset(self.index[cpuset.mount])

    def _copy_cpuset(self, at: int) -> None:
        """A fresh v1 cpuset has neither CPUs nor memory nodes and refuses its first task (ENOSPC)."""
        parent = os.fsdecode(self.directories[at][0])
        for file in ("cpuset.mems", "cpuset.cpus"):
            above = cgroup_tree.read_or(f"{parent}/{file}", "").strip()
            self.writes.append((at, file.encode(), above.encode(), False))


def _is_whole(tree: Tree) -> bool:
    """Whether the caller is at the top of a v1 tree. Below it a cpuset that stays would be in the way of whoever takes
    processors from the caller's: those of a child must be among them."""
    return tree.root == "/" and tree.caller == "/" and tree.controllers == ["cpuset"]


def parent_directory(trees: Trees, tree: Tree, cgroup: str | None, required: bool = True) -> str | None:
    """The directory below which containers go in ``tree``: the place that was found for this process (place.py),
    with v1 the caller's own cgroup; or ``cgroup``.

    ``cgroup`` is a directory ("/sys/fs/cgroup/jobs"; it means the cgroup of the same name in every
    other tree), an absolute cgroup ("/jobs"), or relative to the caller's own ("jobs", "..").
    None when there is no such cgroup.
    """
    if cgroup is None:
        if tree.v2 and not trees.v1:
            from pyminicon.cgroups import place

            return place.find(trees, required).directory
        return cgroup_tree.caller_directory(tree)
    path = os.path.normpath(cgroup)
    # The longest mount point first: v2's may be /sys/fs/cgroup, and v1's are below that.
    for mount, root in sorted(((each.mount, each.root) for each in trees.all()), reverse=True):
        if path == mount or path.startswith(mount + "/"):
            path = root.rstrip("/") + (path[len(mount) :] or "/")
            break
    directory = tree.directory(os.path.normpath(os.path.join(tree.caller, path)))
    return directory if directory and os.path.exists(f"{directory}/cgroup.procs") else None
