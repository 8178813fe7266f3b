"""What the caller and the image bring into the root: volumes, tmpfs, files, a working directory."""

from __future__ import annotations

import os

from pyminicon import plan as ops
from pyminicon.errors import SpecError
from pyminicon.plan import op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.plan import Draft, Op, Ranges


def mount(builder: Draft) -> None:
    """Volumes and tmpfs, the outer before the inner, else in the user's order; then the image's own directory
    to work in."""
    spec, tree, config = builder.spec, builder.tree, builder.plan.rootfs.config
    wanted = _tmpfs(builder) + _volumes(builder)
    taken = {row[0][1:] for row in spec.tmpfs} | {row[1][1:] for row in spec.volumes}
    if config is not None:
        paths = {os.path.normpath(path).strip("/") for path in config.volumes}
        wanted += [row for path in sorted(paths - taken) for row in _image_volume(builder, path)]
        taken |= paths
    for _, row in sorted(wanted, key=lambda row: row[0]):
        if row[1] & ops.MAKE_TARGET:
            _make_way(builder, os.fsdecode(row[3] or ""))
        tree.mount(row)
    if spec.make_cwd and spec.cwd is not None:
        _workdir(builder, os.fsdecode(spec.cwd), taken)
    elif config is not None and spec.cwd is None:
        _workdir(builder, config.workdir or "", taken)


def _tmpfs(builder: Draft) -> list[tuple[int, Op]]:
    """The rows, each with its depth."""
    read_only = builder.spec.read_only
    flags = 0 if read_only else ops.MAKE_TARGET
    wanted = []
    for target, options, noexec in builder.spec.tmpfs:
        row = op(ops.TMPFS, target[1:], None, options, flags | (ops.NO_EXEC if noexec else 0))
        wanted.append((target.count("/"), row))
        if read_only:
            builder.tree.directory(target[1:])
    return wanted


def _volumes(builder: Draft) -> list[tuple[int, Op]]:
    read_only = builder.spec.read_only
    # /etc/localtime is a link: a volume is the file that its source leads to.
    flags = ops.RECURSIVE | ops.FOLLOW | (0 if read_only else ops.MAKE_TARGET)
    wanted = []
    for source, target, mode in builder.spec.volumes:
        row = op(ops.BIND, target[1:], source, flags=flags | (ops.RO if mode == "ro" else 0))
        wanted.append((target.count("/"), row))
        if read_only:
            _cover(builder, source, target[1:])
    return wanted


def _cover(builder: Draft, source: str, target: str) -> None:
    """A read-only image can't be given a mount point later: it goes into the layer that covers it."""
    tree = builder.tree
    if tree.rootfs.entry(target) is not None or any(row[3] == target for row in tree.skeleton):
        return  # the image has it, or the host's /etc as we made it
    if os.path.isdir(source):
        tree.directory(target)
    elif tree.directory_in_layer(target.rpartition("/")[0]):
        tree.skeleton.append(op(ops.FILE, target, data=b"", mode=0o644))


def _image_volume(builder: Draft, path: str) -> list[tuple[int, Op]]:
    """A directory that the image wants to write to: in memory where nothing else is writable."""
    read_only = builder.spec.read_only
    depth = path.count("/") + 1
    if not builder.tree.directory(path):
        return [] if read_only else [(depth, op(ops.DIR, path))]
    if not read_only or not path:
        return []
    found = builder.tree.rootfs.entry(path)
    options = f"mode={found.st_mode & 0o7777:o}" if found else "mode=755"
    # An ordinary user's images belong to him alone, whoever he is inside.
    if found and not builder.rootless and _has_names(builder.ranges, found.st_uid, found.st_gid):
        options += f",uid={found.st_uid},gid={found.st_gid}"
    return [(depth, op(ops.TMPFS, path, None, f"{options},nr_inodes=1m"))]


def _has_names(ranges: Ranges | None, *ids: int) -> bool:
    """Whether a uid and a gid exist inside."""
    return ranges is None or all(
        any(a <= number < a + n for a, _, n in table) for number, table in zip(ids, ranges, strict=True)
    )


def _make_way(builder: Draft, path: str) -> None:
    """Sees to it that something can be made at ``path``: in a user namespace not even root may write to a directory
    whose owner has no name there, so the private layer gets one of its own."""
    if not builder.private_users:
        return
    above = parent = path.rpartition("/")[0]
    found = None
    while above and (found := _in_image(builder, above)) is None:
        above = above.rpartition("/")[0]
    if found is not None and not _is_known(builder, found):
        builder.tree.directory_in_layer(parent)


def _in_image(builder: Draft, path: str) -> os.stat_result | None:
    if builder.plan.rootfs.layers:
        return builder.plan.rootfs.entry(path)
    if not path.startswith("etc/"):
        return None  # ours, or below another mount
    try:
        return os.lstat(f"/{path}")
    except OSError:
        return None


def _is_known(builder: Draft, found: os.stat_result) -> bool:
    """Whether owner and group, as this machine counts, exist inside."""
    own = [(0, os.geteuid(), 1)], [(0, os.getegid(), 1)]
    tables = zip((found.st_uid, found.st_gid), builder.ranges or own, strict=True)
    return all(any(b <= number < b + n for _, b, n in table) for number, table in tables)


def _workdir(builder: Draft, wanted: str, mounted: set[str]) -> None:
    path = os.path.normpath(f"/{wanted}").strip("/")
    if not path:
        return
    # Below a mount, or behind a link of the image, it can only be made when that is there.
    if any(path.startswith(f"{at}/") for at in mounted) or not builder.tree.directory(path):
        builder.tree.mount(op(ops.DIR, path))


def put_files(builder: Draft) -> None:
    """The option ``files``: into the private layer, or through what is mounted over it. Raises SpecError."""
    tree, read_only = builder.tree, builder.spec.read_only
    mounted = [
        row[3]
        for row in tree.mounts + tree.sys_mounts
        if row[0] in (ops.TMPFS, ops.BIND, ops.OVERLAY) and not row[1] & ops.SKELETON
    ]
    uid, gid = (0, 0) if builder.single_map else (builder.uid, builder.gid)
    for target, data, mode in builder.spec.files:
        path = target[1:]
        # Below a mount it has to wait for the mount.
        late = any(isinstance(at, str) and path.startswith(at + "/") for at in mounted)
        found = tree.rootfs.entry(path)
        if path in tree.made or (found is not None and (found.st_mode & 0o170000) == 0o040000):
            raise SpecError("files", f"{target} is a directory of the image")
        if late or not read_only:
            _make_way(builder, path)
            tree.mount(op(ops.FILE, path, data=data, mode=mode, uid=uid, gid=gid))
        else:
            tree.put(path, data, mode, uid, gid)
