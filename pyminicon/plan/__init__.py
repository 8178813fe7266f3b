"""The file system operations of a launch plan, in the numbers of csrc/base/plan.h."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Text: TypeAlias = str | bytes | None
    # kind, flags, source, target, data, mode, uid, gid, held
    Op: TypeAlias = tuple[int, int, Text, Text, Text, int, int, int, int]

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
OPTIONAL = 512
IF_TARGET = 1024
CONSOLE_TARGET = 2048


def op(
    kind: int,
    target: Text,
    source: Text = None,
    data: Text = None,
    flags: int = 0,
    mode: int = 0o755,
    uid: int = 0,
    gid: int = 0,
) -> Op:
    """One operation; ``target`` is relative to the root."""
    return (kind, flags, source, target, data, mode, uid, gid, -1)


def hold(bind: Op, fd: int) -> Op:
    """``bind`` with the file behind ``fd`` as its source, wherever that has been moved since."""
    return (*bind[:8], fd)
