"""What can be done with a path inside, each as an operation (see :mod:`pyminicon.inside.home`)."""

from __future__ import annotations

import errno
import os
import stat as modes

from pyminicon.inside import wire
from pyminicon.inside.wire import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from pyminicon.inside.home import Op

#: So many names of one directory are kept where all of them are needed at once.
MOST_NAMES = 1_000_000


class Name:
    """A path inside: as the kernel is told of it, and as errors tell of it."""

    __slots__ = ("name", "told")

    def __init__(self, name: bytes, told: str) -> None:
        self.name: bytes = name
        self.told: str = told

    def child(self, name: str) -> Name:
        """What is in it under that name."""
        return Name(os.path.join(self.name, os.fsencode(name)), os.path.join(self.told, name))


def ask(op: int, path: Name, **more: Any) -> Op[wire.Reply]:
    """The answer to one request; an error is raised."""
    reply: wire.Reply = yield Request(op, path.name, path.told, **more)
    return reply.checked(path.told)


def stat(path: Name, follow: bool = True) -> Op[os.stat_result]:
    """As os.stat and os.lstat."""
    return wire.stat_of((yield from ask(wire.STAT, path, flags=0 if follow else wire.NO_FOLLOW)))


_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)  # as pathlib has it


def mode_of(path: Name, follow: bool = True) -> Op[int]:
    """The mode of what is there; 0 where nothing is."""
    try:
        return (yield from stat(path, follow)).st_mode
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    except ValueError:  # a name that nothing can have
        pass
    return 0


REGULAR, DIRECTORY, LINK = modes.S_IFREG, modes.S_IFDIR, modes.S_IFLNK


def is_kind(path: Name, kind: int, follow: bool = True) -> Op[bool]:
    """Whether it is there and of that kind."""
    return modes.S_IFMT((yield from mode_of(path, follow))) == kind


def readlink(path: Name) -> Op[str]:
    """What the link leads to, as it is written."""
    return os.fsdecode((yield from ask(wire.READLINK, path)).body)


def batches(path: Name, flags: int = 0) -> Generator[Any, Any, None]:
    """Yields requests, and lists of (name, type)."""
    op = wire.LIST
    while True:
        reply = (yield Request(op, path.name, path.told, flags=flags)).checked(path.told)
        names = list(wire.entries_of(reply))
        if names:
            yield names
        if reply.answer != wire.MORE_TO_COME:
            return
        op = wire.MORE


def all_names(path: Name, flags: int = 0) -> Op[list[tuple[str, int]]]:
    """Every name of the directory at once. Raises OSError where there are more than MOST_NAMES."""
    found: list[tuple[str, int]] = []
    op = wire.LIST
    while True:
        reply = (yield Request(op, path.name, path.told, flags=flags)).checked(path.told)
        found += wire.entries_of(reply)
        if len(found) > MOST_NAMES:
            raise wire.failure(errno.EOVERFLOW, path.told)
        if reply.answer != wire.MORE_TO_COME:
            return found
        op = wire.MORE


def mkdir(path: Name, mode: int, parents: bool, exist_ok: bool) -> Op[None]:
    """As pathlib.Path.mkdir."""
    try:
        yield from ask(wire.MKDIR, path, mode=mode & 0o7777)
    except FileNotFoundError:
        above = os.path.dirname(path.name)
        if not parents or above == path.name:
            raise
        yield from mkdir(Name(above, os.path.dirname(path.told) or "."), 0o777, True, True)
        yield from mkdir(path, mode, False, exist_ok)
    except OSError:
        if not exist_ok or not modes.S_ISDIR((yield from mode_of(path))):
            raise


def unlink(path: Name, missing_ok: bool) -> Op[None]:
    """As pathlib.Path.unlink."""
    try:
        yield from ask(wire.UNLINK, path)
    except FileNotFoundError:
        if not missing_ok:
            raise


def rmdir(path: Name) -> Op[None]:
    """As pathlib.Path.rmdir."""
    yield from ask(wire.RMDIR, path)


def rmtree(path: Name) -> Op[None]:
    """Piece by piece, as each of them takes a moment."""
    while (yield from ask(wire.RMTREE, path)).answer == wire.MORE_TO_COME:
        pass


def rename(path: Name, target: Name) -> Op[None]:
    """As os.rename: what was there is replaced."""
    reply: wire.Reply = yield Request(
        wire.RENAME, path.name, path.told, second=target.name, other=target.told
    )
    reply.checked(path.told, target.told)


def chmod(path: Name, mode: int) -> Op[None]:
    """As os.chmod."""
    yield from ask(wire.CHMOD, path, mode=mode & 0o7777)


def symlink(path: Name, target: str) -> Op[None]:
    """As os.symlink; ``target`` is written as it is."""
    if not target:
        raise wire.failure(errno.ENOENT, target, path.told)
    reply: wire.Reply = yield Request(
        wire.SYMLINK, path.name, target, second=os.fsencode(target), other=path.told
    )
    reply.checked(target, path.told)


def touch(path: Name, mode: int, exist_ok: bool) -> Op[None]:
    """As pathlib.Path.touch."""
    if exist_ok:
        reply = yield Request(wire.TOUCH, path.name, path.told)
        if not reply.error:
            return
    flags = os.O_CREAT | os.O_WRONLY | (0 if exist_ok else os.O_EXCL)
    reply = yield Request(wire.OPEN, path.name, path.told, open_flags=flags, mode=mode)
    if reply.fd >= 0:
        os.close(reply.fd)
    reply.checked(path.told)


def open_descriptor(path: Name, open_flags: int, mode: int = 0o666, *, flags: int = 0) -> Op[int]:
    """A descriptor of a regular file, or -1: the worker waits with it for a pipe."""
    reply = yield from ask(wire.OPEN, path, open_flags=open_flags, mode=mode, flags=flags)
    if reply.fd < 0 and reply.answer != wire.PIPE:
        raise wire.failure(errno.EPROTO, path.told)
    return reply.fd
