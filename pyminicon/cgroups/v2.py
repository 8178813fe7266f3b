"""What is special about cgroup v2: controllers are enabled from above, and not everywhere."""

from __future__ import annotations

import errno
import os

from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups.files import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cgroups.tree import Tree

SCOPE = (
    "start the caller in a cgroup of its own below a delegated one, and name the delegated one: "
    "systemd-run --user --scope -p Delegate=yes sh -c 'd=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); "
    'mkdir $d/caller && echo $$ >$d/caller/cgroup.procs && exec "$@"\' sh COMMAND..., '
    'then cgroup_parent=".."'
)
BUSY = (
    "on cgroup v2 a cgroup with processes in it, such as the caller's own, can't give limits to cgroups "
    "below it; " + SCOPE
)
BESIDE = (
    'cgroup_parent=".." works here: containers then stand beside the caller, and limits of the caller\'s own '
    "cgroup don't hold for them; the reason: "
)
DENIED = "the caller may not make cgroups there; run as root, or " + SCOPE
READ_ONLY = (
    "the cgroup tree is read-only or not the caller's to write, as inside a container: start that container "
    "with a writable one, or go without limits"
)


def enable(tree: Tree, parent: str, required: set[str], wished: set[str]) -> set[str]:
    """Enable controllers for the children of a v2 cgroup; those that are enabled then.

    A cgroup that has processes, and isn't the root, can't (EBUSY). It isn't even tried: "+pids" would
    succeed and turn the cgroup into a threaded domain, where memory and cgroup.kill don't exist and
    ordinary children are invalid.
    """
    enabled = cgroup_tree.controllers(parent, "cgroup.subtree_control")
    missing = (required | wished) - enabled
    if not missing:
        return enabled
    if cgroup_tree.is_root(parent) or not cgroup_tree.read_or(f"{parent}/cgroup.procs", "").strip():
        for controller in sorted(missing):
            error = _enable_from_the_top(tree, parent, controller)
            if error is not None and controller in required:
                refuse(*error)
        return cgroup_tree.controllers(parent, "cgroup.subtree_control")
    if blocked := sorted(required - enabled):
        hint = BESIDE + BUSY if _can_stand_beside(parent, required) else BUSY
        refuse(errno.EBUSY, f"{parent}/cgroup.subtree_control: +{blocked[0]}", hint)
    return enabled


def _can_stand_beside(caller: str, required: set[str]) -> bool:
    """Whether the cgroup above the caller's own could hold containers: it is the caller's to write,
    has no processes, and the controllers."""
    above = caller.rpartition("/")[0]
    mine = os.access(f"{above}/cgroup.procs", os.W_OK, effective_ids=True)
    empty = mine and not cgroup_tree.read_or(f"{above}/cgroup.procs", "x").strip()
    return empty and required <= cgroup_tree.controllers(above)


def _enable_from_the_top(tree: Tree, parent: str, controller: str) -> tuple[int, str, str] | None:
    """Enable a controller in ``parent`` and, where it must be, above; None or what went wrong.

    A cgroup has the controllers that its parent has enabled for it, so this goes from the top down.
    """
    for directory in reversed(list(cgroup_tree.chain(tree, parent))):
        path = f"{directory}/cgroup.subtree_control"
        if controller in cgroup_tree.controllers(directory, "cgroup.subtree_control"):
            continue
        if controller not in cgroup_tree.controllers(directory):
            return (
                errno.EOPNOTSUPP,
                f"{directory}/cgroup.controllers: {controller}",
                _no_controller(controller),
            )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"+" + controller.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            busy = error.errno in (
                errno.EBUSY,
                errno.EOPNOTSUPP,
            )  # EBUSY: processes in it; EOPNOTSUPP: it is threaded
            hint = BUSY if busy else READ_ONLY if error.errno == errno.EROFS else DENIED
            return error.errno or errno.EIO, f"{path}: +{controller}", hint
    return None


def _no_controller(controller: str) -> str:
    return (
        f"the kernel or the cgroup above offers no {controller} controller here; with a systemd user manager "
        "above: systemctl edit user@.service, with Delegate=cpu cpuset io memory pids below [Service]"
    )


def check_migration(tree: Tree, parent: str) -> None:
    """An ordinary user may only be born into a cgroup when cgroup.procs of the cgroup that is above
    both the caller's and the new one is the user's to write (cgroups(7), delegation)."""
    here = cgroup_tree.caller_directory(tree)
    above = set(cgroup_tree.chain(tree, here))
    common = next((path for path in cgroup_tree.chain(tree, parent) if path in above), tree.mount)
    if not os.access(f"{common}/cgroup.procs", os.W_OK, effective_ids=True):
        refuse(
            errno.EACCES,
            f"{common}/cgroup.procs",
            "the caller and its containers have to be in one delegated cgroup: " + SCOPE,
        )


def oom_group_above(tree: Tree, parent: str) -> bool:
    """Whether a kill of a whole group could reach a child that still shares the caller's memory.

    With memory.oom.group in a cgroup above the container's, the OOM killer takes everyone in there,
    with everyone who shares memory with them: the caller, too. Where the caller is itself below that
    cgroup it is meant; above only the container (by cgroup_parent) it isn't.
    """
    above = set(cgroup_tree.chain(tree, cgroup_tree.caller_directory(tree)))
    for directory in cgroup_tree.chain(tree, parent):
        if directory in above:
            return False
        if cgroup_tree.read_or(f"{directory}/memory.oom.group", "0").strip() == "1":
            return True
    return False
