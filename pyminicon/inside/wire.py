"""What is said between the caller and a file worker: one message for each request, one for each answer.

The other side is csrc/child/files/files.h. It is a program of ours, but what it says is of names and files that strangers
made, and they may have found a way to speak for it: so whatever comes is looked at before it is used.
"""

from __future__ import annotations

import os
import struct
from errno import ENAMETOOLONG, EPROTO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# FileOp
(
    STAT,
    OPEN,
    PUMP,
    READLINK,
    LIST,
    MORE,
    MKDIR,
    UNLINK,
    RMDIR,
    RENAME,
    CHMOD,
    SYMLINK,
    LINK,
    TOUCH,
    RMTREE,
    BASE,
) = range(1, 17)
# How a name is resolved.
NO_FOLLOW, BENEATH, NO_LINKS, DISTRUST_OVERLAY, GIVEN_TIME = 1, 2, 4, 8, 16
# FileAnswer
DONE, MORE_TO_COME, PIPE = 0, 1, 2

DIRECTORY, REGULAR, LINK_TYPE, UNKNOWN = 4, 8, 10, 0  # d_type of getdents64(2)

_REQUEST = struct.Struct("=IIiIqII")
_REPLY = struct.Struct("=iI")
_STAT = struct.Struct("=5Q3q6I")
MOST_REPLY: int = _REPLY.size + (32 << 10)
MOST_NAME: int = 4095  # PATH_MAX, less the NUL

#: What changes nothing may be asked once more, of another worker, where one has died of it.
ASKS_ONLY: frozenset[int] = frozenset({STAT, READLINK, LIST})


class Request:
    """One thing to do; ``told`` and ``other``: the names that an error is about, as the caller wrote them. Raises
    OSError and ValueError for what can't be a name."""

    __slots__ = ("fd", "flags", "mode", "name", "op", "open_flags", "other", "second", "time", "told")

    def __init__(
        self, op: int, name: bytes = b"", told: str | None = None, *, second: bytes = b"", flags: int = 0,
        open_flags: int = 0, mode: int = 0, time: int = 0, fd: int = -1, other: str | None = None,
    ) -> None:  # fmt: skip
        self.op: int = op
        self.name: bytes = name
        self.told: str | None = told
        self.second: bytes = second
        self.flags: int = flags
        self.open_flags: int = open_flags
        self.mode: int = mode
        self.time: int = time
        self.fd: int = fd
        self.other: str | None = other
        for each in (name, second):
            if len(each) > MOST_NAME:
                raise failure(ENAMETOOLONG, told, other)
            if b"\0" in each:
                raise ValueError("embedded null byte")

    def packed(self) -> bytes:
        """The message. Raises TypeError for a number that is none or has more bits than the file system's."""
        try:
            head = _REQUEST.pack(
                self.op, self.flags, self.open_flags, self.mode, self.time,
                len(self.name) + 1, len(self.second) + 1,
            )  # fmt: skip
        except struct.error as error:
            raise TypeError(f"a mode, an id or a time: {error}") from None
        return b"%b%b\0%b\0" % (head, self.name, self.second)


class Reply:
    """What came back: an errno, a word, bytes, and perhaps a descriptor, which is the receiver's to close."""

    __slots__ = ("answer", "body", "error", "fd")

    def __init__(self, message: bytes, fd: int = -1) -> None:
        self.error: int
        self.answer: int
        self.error, self.answer = _REPLY.unpack_from(message)
        self.body: bytes = message[_REPLY.size :]
        self.fd: int = fd

    def checked(self, told: str | None, other: str | None = None) -> Reply:
        """Itself. Raises the OSError that it tells of."""
        if self.error:
            raise failure(self.error, told, other)
        return self


def failure(number: int, told: str | None, other: str | None = None) -> OSError:
    """The subclass of OSError that ``number`` means, about the file ``told``."""
    text = os.strerror(number)
    if told is None:
        return OSError(number, text)
    return OSError(number, text, told, None, other) if other is not None else OSError(number, text, told)


def stat_of(reply: Reply) -> os.stat_result:
    """What STAT answers."""
    if len(reply.body) != _STAT.size:
        raise failure(EPROTO, None)
    (
        inode, device, links, size, blocks, accessed, modified, changed, mode, uid, gid, block_size, raw, _,
    ) = _STAT.unpack(reply.body)  # fmt: skip
    times = (accessed, modified, changed)
    whole = tuple(time // 1_000_000_000 for time in times)
    seconds = tuple(time / 1e9 for time in times)
    return os.stat_result(
        (mode, inode, device, links, uid, gid, size, *whole, *seconds, *times, block_size, blocks, raw)
    )


def entries_of(reply: Reply) -> Iterator[tuple[str, int]]:
    """The names that LIST and MORE answer, with their types. What can't be the name of anything is left out: it would
    be a way to somewhere else."""
    for row in reply.body.split(b"\0"):
        name = row[1:]
        if name and name not in (b".", b"..") and b"/" not in name:
            yield os.fsdecode(name), row[0]
