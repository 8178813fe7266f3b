"""What is special about cgroup v2: controllers are enabled from above, and not everywhere."""

from __future__ import annotations

import errno
import os

from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups.files import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cgroups.tree import Tree

_DOCS = "docs/cgroups.md"
BUSY = f"it has processes: name an empty cgroup, or go without cgroup_parent ({_DOCS}#busy)"
DENIED = f"it isn't the caller's to make cgroups in: run as root ({_DOCS}#place)"
SYSTEMDS = f"systemd manages it: go without cgroup_parent ({_DOCS}#place)"
MOUNT_ANEW = f"mount the cgroups anew after unshare(CLONE_NEWCGROUP) ({_DOCS}#place)"
READ_ONLY = f"the cgroup tree is read-only here ({_DOCS}#read-only)"


def enable(tree: Tree, parent: str, required: set[str], wished: set[str], top: str = "") -> set[str]:
    """Enable controllers for the children of a v2 cgroup, in it and above it up to ``top``; those that are
    enabled then.

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
            error = _enable_from_the_top(tree, parent, controller, top)
            if error is not None and controller in required:
                refuse(*error)
        return cgroup_tree.controllers(parent, "cgroup.subtree_control")
    if blocked := sorted(required - enabled):
        refuse(errno.EBUSY, f"{parent}: +{blocked[0]}", BUSY)
    return enabled


def _enable_from_the_top(tree: Tree, parent: str, controller: str, top: str) -> tuple[int, str, str] | None:
    """Enable a controller in ``parent`` and, where it must be, above; None or what went wrong.

    A cgroup has the controllers that its parent has enabled for it, so this goes from the top down.
    """
    for directory in reversed([path for path in cgroup_tree.chain(tree, parent) if path.startswith(top)]):
        path = f"{directory}/cgroup.subtree_control"
        if controller in cgroup_tree.controllers(directory, "cgroup.subtree_control"):
            continue
        if controller not in cgroup_tree.controllers(directory):
            return errno.EOPNOTSUPP, controller, _no_controller(controller)
        if cgroup_tree.belongs_to_systemd(tree, directory):
            return errno.EPERM, f"{directory}: +{controller}", SYSTEMDS
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
            return error.errno or errno.EIO, f"{directory}: +{controller}", hint
    return None


def _no_controller(controller: str) -> str:
    if cgroup_tree.mounted_outside():
        return MOUNT_ANEW
    if os.geteuid() != 0 and cgroup_tree.systemd_runs():
        return (
            f"as root: systemctl edit user@.service: [Service] Delegate={controller} ({_DOCS}#no-controller)"
        )
    return f"the kernel or the cgroup above doesn't offer {controller} here ({_DOCS}#no-controller)"


def check_migration(tree: Tree, parent: str) -> None:
    """An ordinary user may only be born into a cgroup when cgroup.procs of the cgroup that is above
    both the caller's and the new one is the user's to write (cgroups(7), delegation)."""
    above = cgroup_tree.common(tree, cgroup_tree.caller_directory(tree), parent)
    if not os.access(f"{above}/cgroup.procs", os.W_OK, effective_ids=True):
        hint = f"it isn't the user's: go without cgroup_parent ({_DOCS}#place)"
        refuse(errno.EACCES, f"{above}/cgroup.procs", hint)


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
