"""Where the containers of this process go on a machine that has cgroup v2 alone.

cgroup v2 gives controllers only to the children of a cgroup without processes, and the caller's own cgroup
has the caller. So a place is looked for, once per process and only when a limit asks for it: below a unit that is
delegated to the caller; in a scope of its own that systemd lends; without systemd, beside the caller's cgroup. What
systemd manages is never written. Sources: systemd's CGROUP_DELEGATION.md, cgroups(7).
"""

from __future__ import annotations

import errno
import os

from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups.arrange import clear, give_controllers, impose, own_limits
from pyminicon.cgroups.files import refuse
from pyminicon.cgroups.tree import Place, controllers, read_or
from pyminicon.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cgroups.tree import Tree, Trees

_DOCS = "docs/cgroups.md"


def find(trees: Trees, required: bool = True) -> Place:
    """The place, which is looked for at the first call. Raises LaunchError, which says who would have to give one.
    A caller that can do without a place (``required=False``) isn't made to look again after a failure."""
    assert trees.v2 is not None
    known = trees.place
    if known is not None and known.is_there():
        return known
    with trees.lock:
        if trees.place is None or not trees.place.is_there():
            if trees.no_place is not None and not required:
                raise trees.no_place
            try:
                trees.place = _look(trees.v2)
            except LaunchError as error:
                trees.no_place = error
                raise
        return trees.place


def foreseen(trees: Trees) -> str:
    """Where :func:`find` would put containers. Nothing is made or moved."""
    assert trees.v2 is not None
    if trees.place is not None:
        return trees.place.directory
    way, directory = _way(trees.v2)
    return f"{directory}/pyminicon-{os.getpid()}-X.scope" if way == Way.SCOPE else directory


class Way:
    """The ways in which a place is made."""

    UNIT, SCOPE, ROOT, BESIDE, OWN, BARE = range(6)


def _way(tree: Tree) -> tuple[int, str]:
    """The way that works here, and the cgroup that it begins at."""
    here = cgroup_tree.caller_directory(tree)
    unit = cgroup_tree.unit_of(tree, here)
    if unit and cgroup_tree.is_delegated(unit):
        return Way.UNIT, unit
    if cgroup_tree.systemd_runs():
        from pyminicon.cgroups import systemd

        manager, _, slices = systemd.home(here[len(tree.mount) :])
        return Way.SCOPE, f"{tree.mount}{manager}{slices}"
    if cgroup_tree.is_root(here):
        return Way.ROOT, here
    above = here.rpartition("/")[0]
    if here != tree.mount and _is_free(tree, above):
        return Way.BESIDE, above
    return Way.OWN if _is_mine(here) else Way.BARE, here


def _look(tree: Tree) -> Place:
    if os.statvfs(tree.mount).f_flag & os.ST_RDONLY:
        hint = f"read-only: ProtectControlGroups=no in the unit, or a writable tree ({_DOCS}#read-only)"
        refuse(errno.EROFS, tree.mount, hint)
    way, directory = _way(tree)
    if way == Way.UNIT:
        return _within(directory, f"the delegated {os.path.basename(directory)}")
    here = cgroup_tree.caller_directory(tree)
    if way == Way.SCOPE:
        from pyminicon.cgroups import systemd

        return systemd.lend(tree, here)
    if way == Way.BESIDE:
        return _beside(tree, here, directory)
    if way == Way.OWN:
        return _within(here, "the caller's own cgroup")
    if way == Way.ROOT:
        return Place(here, "the root of the tree")
    return Place(here, "the caller's own cgroup, without controllers", top=here)


def _is_mine(directory: str) -> bool:
    files = (directory, f"{directory}/cgroup.procs", f"{directory}/cgroup.subtree_control")
    return all(os.access(file, os.W_OK, effective_ids=True) for file in files)


def _is_free(tree: Tree, directory: str) -> bool:
    """Whether containers may be put into ``directory``, beside the caller's own cgroup."""
    if cgroup_tree.belongs_to_systemd(tree, directory):
        return False
    empty = cgroup_tree.is_root(directory) or not read_or(f"{directory}/cgroup.procs", "x").strip()
    return empty and _is_mine(directory)


def _beside(tree: Tree, here: str, above: str) -> Place:
    """A place beside the caller's cgroup. If that has limits they are copied to a directory of this process's own, which
    is swept when the process has died."""
    from pyminicon.cgroups.sweep import owner

    copied = own_limits(tree, here, above)
    if not copied:
        return Place(above, "beside the caller's own cgroup")
    group = f"{above}/{owner()}-0"
    os.makedirs(group, exist_ok=True)
    give_controllers(above, {file.partition(".")[0] for file in copied})
    impose(group, copied)
    return Place(group, "beside the caller's own cgroup, with its limits")


def _within(unit: str, how: str) -> Place:
    """A place below a cgroup that the caller may arrange: the processes in it are moved into a leaf first."""
    leaf = clear(unit)
    give_controllers(unit, controllers(unit))
    return Place(unit, how, top=unit, leaf=leaf)
