"""The images ``host`` and ``python``: this machine's programs, none of its data."""

from __future__ import annotations

from pyminicon import host_etc, ops, rootfs
from pyminicon.ops import op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.plan import Builder


def assemble(builder: Builder) -> None:
    """Puts the root together from directories of this machine."""
    tree, trees = builder.tree, builder.plan.rootfs.trees
    for name, target in rootfs.system_links():
        tree.skeleton.append(op(ops.SYMLINK, name, source=target))
    # An interpreter that lives below /root must be reachable for every user of the container.
    home = 0o755 if any(path.startswith("/root/") for path in trees) else 0o700
    for name, mode in (("tmp", 0o1777), ("root", home), ("home", 0o755), ("run", 0o755)):
        tree.directory(name, mode)
    for name, mode in (("var", 0o755), ("var/tmp", 0o1777), ("var/log", 0o755), ("var/lib", 0o755)):
        tree.directory(name, mode)
    for name in ("etc", "opt", "mnt", "srv", "var/cache"):
        tree.directory(name)
    tree.skeleton.append(op(ops.SYMLINK, "var/run", source="/run"))
    for path in trees:
        _mount_at_its_own_path(builder, path)
    for name, link, data, mode in host_etc.entries():
        if link is not None:
            tree.skeleton.append(op(ops.SYMLINK, f"etc/{name}", source=link))
        else:
            tree.skeleton.append(op(ops.FILE, f"etc/{name}", data=data, mode=mode))
    for name in host_etc.trees():
        _mount_at_its_own_path(builder, f"/etc/{name}")


def _mount_at_its_own_path(builder: Builder, path: str) -> None:
    """A directory of this machine: below a private layer, or read-only."""
    tree, target = builder.tree, path[1:]
    setuid = 0 if builder.spec.no_new_privileges else ops.SETUID
    tree.directory_in_layer(target)
    if builder.spec.read_only:
        tree.mounts.append(op(ops.BIND, target, path, flags=ops.RO | ops.RECURSIVE | setuid))
    else:
        tree.mounts.append(op(ops.OVERLAY, target, path, f"o{len(tree.mounts)}", setuid))


def has_all(trees: list[str], candidates: list[str]) -> bool:
    """Whether what is run can only be a program of this machine's own ``trees``."""
    homes = (*trees, "/bin", "/sbin")
    return all(
        "/../" not in name and any(name.startswith(f"{home}/") for home in homes) for name in candidates
    )
