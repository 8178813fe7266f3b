"""What a plan is made of: the file system operations, in the numbers of csrc/base/plan.h, the root as a tree of them,
the plan itself, and the draft that the rooms beside this module write into."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from pyminicon._core import Plan as CorePlan
    from pyminicon._core import PlanFields
    from pyminicon.options import Spec
    from pyminicon.plan.rootfs import Rootfs

    Text: TypeAlias = str | bytes | None
    #: of a file's bytes: the container's own id comes between each two of them
    Pieces: TypeAlias = tuple[bytes, ...]
    # kind, flags, source, target, data, mode, uid, gid, held
    Op: TypeAlias = tuple[int, int, Text, Text, Text | Pieces, int, int, int, int]
    #: candidates, argv, env, cwd
    ExecSpec: TypeAlias = tuple[list[str], list[str | bytes], list[str], str | bytes]
    #: of uids and of gids: inside, outside, count
    Ranges: TypeAlias = tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]

# OpKind
(DIR, FILE, SYMLINK, BIND, BIND_LAYER, TMPFS, OVERLAY, PROC, SYSFS, DEV, CGROUP, MASK_FILE, MASK_DIR,
 READ_ONLY, PLACE, SEAL, CONSOLE) = range(17)  # fmt: skip

# RootKind
ROOT_SCRATCH, ROOT_OVERLAY, ROOT_COVER, ROOT_BIND = range(4)

# flags
RO = 1
RECURSIVE = 2
MAKE_TARGET = 4
NO_SYMLINK = 8
HOST_BIND = 16
BIND_NODES = 32
SETUID = 64
NO_EXEC = 128
MQUEUE = 256
IF_TARGET = 1024
CONSOLE_TARGET = 2048
FOLLOW = 4096
SKELETON = 8192


def op(
    kind: int,
    target: Text,
    source: Text = None,
    data: Text | Pieces = None,
    flags: int = 0,
    mode: int = 0o755,
    uid: int = 0,
    gid: int = 0,
) -> Op:
    """One operation; ``target`` is relative to the root."""
    return (kind, flags, source, target, data, mode, uid, gid, -1)


def whiteout(target: str) -> Op:
    """What an overlay's lower layer has at ``target`` isn't there: in a skeleton, a link to nowhere."""
    return op(SYMLINK, target)


def hold(bind: Op, fd: int) -> Op:
    """``bind`` with the file behind ``fd`` as its source, wherever that has been moved since."""
    return (*bind[:8], fd)


class Tree:
    """What the private layer holds before anything is mounted (``skeleton``), and what is mounted then: first
    ``mounts``, then /sys and what lies in it.
    """

    __slots__ = ("made", "mounts", "private_users", "rootfs", "skeleton", "sys_mounts")

    def __init__(self, rootfs: Rootfs, private_users: bool) -> None:
        self.rootfs: Rootfs = rootfs
        self.private_users: bool = private_users
        self.skeleton: list[Op] = []
        self.mounts: list[Op] = []
        self.sys_mounts: list[Op] = []
        self.made: set[str] = set()  # directories that the skeleton has

    def directory(self, path: str, mode: int = 0o755) -> bool:
        """Sees to it that the directory ``path`` is in the root, with the attributes the image gives it.

        False where something else, a link say, lies there: the mount will say so.
        """
        if path in self.made or not path:
            return True
        parent = path.rpartition("/")[0]
        found = self.rootfs.entry(path)
        if found is None:
            if not self.directory_in_layer(parent):
                return False
            self.skeleton.append(op(DIR, path, mode=mode))
            self.made.add(path)
        return found is None or (found.st_mode & 0o170000) == 0o040000

    def directory_in_layer(self, path: str) -> bool:
        """The same, in the private layer itself, to put something below it there."""
        if path in self.made or not path:
            return True
        if not self.directory_in_layer(path.rpartition("/")[0]):
            return False
        found = self.rootfs.entry(path)
        if found is None:
            self.skeleton.append(op(DIR, path))
        elif (found.st_mode & 0o170000) == 0o040000:
            # The upper directory's attributes are what is seen of a merged one. An owner that has no
            # name in a private user namespace stays what the set-up runs as.
            owner = (0, 0) if self.private_users else (found.st_uid, found.st_gid)
            self.skeleton.append(op(DIR, path, mode=found.st_mode & 0o7777, uid=owner[0], gid=owner[1]))
        else:
            return False
        self.made.add(path)
        return True

    def give_top(self, told: str) -> None:
        """The root directory's own mode and owner ("mode:uid:gid"): what is seen of a merged one is the upper's."""
        mode, uid, gid = told.split(":")
        owner = (0, 0) if self.private_users else (int(uid), int(gid))
        self.skeleton.append(op(DIR, ".", mode=int(mode, 8), uid=owner[0], gid=owner[1]))

    def put(self, path: str, data: bytes | Pieces, mode: int, uid: int = 0, gid: int = 0) -> None:
        """A file in the private layer: before the root is mounted where the image's way there is plain
        directories, else through the mounted root. It hides what the image has there, links too."""
        row = op(FILE, path, data=data, mode=mode, uid=uid, gid=gid)
        if self.directory_in_layer(path.rpartition("/")[0]):
            self.skeleton = [made for made in self.skeleton if made[3] != path]
            self.skeleton.append(row)
        else:
            self.mounts.append(row)

    def mount(self, row: Op) -> None:
        """In its order, what lies in /sys after that."""
        target = os.fsdecode(row[3] or "")
        (self.sys_mounts if target == "sys" or target.startswith("sys/") else self.mounts).append(row)


class Plan:
    """What the core takes, and what is needed afterwards.

    ``fields``: what the container is; ``core``: the same as the core keeps it. ``exec_spec``: what the one run of it is
    that was asked for. ``id``: stands in both for the container's own, which the core makes anew in each launch.
    """

    __slots__ = ("core", "entrypoint", "environment", "exec_spec", "fields", "id", "rootfs", "stop_signal")

    def __init__(self, rootfs: Rootfs, container_id: str) -> None:
        self.rootfs: Rootfs = rootfs
        self.id: str = container_id
        self.fields: PlanFields = {"placeholder_id": container_id}
        self.core: CorePlan | None = None
        self.exec_spec: ExecSpec = ([], [], [], "/")
        self.environment: dict[str, str] = {}
        self.entrypoint: list[str | bytes] | None = None  # instead of the image's, whose cmd isn't used then
        self.stop_signal: int = 15

    def outer_uid(self) -> int:
        """The uid, as this machine counts, that the program runs as."""
        uid: int = self.fields.get("uid", 0)
        for line in self.fields.get("uid_map", "").splitlines():
            inside, outside, count = (int(word) for word in line.split())
            if inside <= uid < inside + count:
                return uid + outside - inside
        return uid


class Draft:
    """A plan in the making: what each chapter has decided, for those after it and for the rooms."""

    spec: Spec
    once: bool  # for one container alone
    plan: Plan
    fields: PlanFields
    tree: Tree
    rootless: bool
    home: str
    private_users: bool
    uid: int
    gid: int
    hostname: str
    ranges: Ranges | None
    single_map: bool  # one id is mapped and the child writes the map itself
    has_tty_group: bool

    def map_own_id(self) -> None:
        """The child maps the one id that it may map by itself."""
        self.single_map = True
        self.has_tty_group = False
        self.fields["own_uid_map"] = f"{self.uid} {os.geteuid()} 1\n"
        self.fields["own_gid_map"] = f"{self.gid} {os.getegid()} 1\n"
