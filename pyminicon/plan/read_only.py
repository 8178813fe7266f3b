"""A read-only root that needs no overlay."""

from __future__ import annotations

import os

from pyminicon import plan as ops
from pyminicon.plan import op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.plan import Draft


def uncover(builder: Draft) -> None:
    """A root of one directory that has all mount points is bound, and the few files bound over its own: an
    overlay to cover it with would cost more than all that."""
    root, tree = builder.plan.rootfs, builder.tree
    # Landlock's rule would be about that very directory: the caller's own program may not lie in it.
    image = root.about or os.stat(root.layers[0])
    above = _above_own_program()
    if above is None or (image.st_dev, image.st_ino) in above:
        return
    files = []
    for kind, _, _, target, *_ in tree.skeleton:
        path = os.fsdecode(target or "")
        found = root.entry(path)
        wanted = {ops.DIR: 0o040000, ops.FILE: 0o100000}.get(kind)
        if found is None or found.st_mode & 0o170000 != wanted:
            return
        if kind == ops.FILE:
            files.append(path)
    builder.fields["root"] = ops.ROOT_BIND
    tree.mounts[:0] = [op(ops.BIND_LAYER, path, path, flags=ops.RO) for path in files]


_above: frozenset[tuple[int, int]] | None = None


def _above_own_program() -> frozenset[tuple[int, int]] | None:
    """The directories that the running interpreter lies in, by device and inode: a bind mount is the same
    directory by another name, and the kernel's rule goes by what it is. None where they can't be seen: in a chroot
    the interpreter's path names something else, or nothing."""
    global _above
    if _above is None:
        path, found = os.path.realpath("/proc/self/exe"), set()
        try:
            if not os.path.samefile(path, "/proc/self/exe"):
                return None
            while path != "/":
                path = os.path.dirname(path)
                about = os.stat(path)
                found.add((about.st_dev, about.st_ino))
        except OSError:
            return None
        _above = frozenset(found)
    return _above
