"""Whole files and directories, from the caller's side to the container's and back.

Both sides may be changed by strangers meanwhile. Inside, all that is made or read is named beneath one directory that
the worker holds, and no link leads out of it. Outside, each directory is a descriptor and nothing is opened through a
link, so what a name becomes while it is copied leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat as modes

from pyminicon.inside import ops, wire
from pyminicon.inside.home import Hold
from pyminicon.inside.ops import Name
from pyminicon.inside.pour import pour, through_pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyminicon.inside.pour import Read

    T = TypeVar("T")

_DEEPEST = 256  # descriptors that are held at once
_PERMISSIONS = 0o777  # no setuid, setgid, sticky
_TRIES = 8
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Beneath:
    """What is named beneath one directory inside, which the worker holds."""

    def __init__(self, hold: Hold, base: Name, links: int = wire.NO_LINKS) -> None:
        self.hold: Hold = hold
        self._base: Name = base
        self._flags = wire.BENEATH | links
        self._ask(wire.BASE, base.name, base.told)

    def _ask(self, op: int, name: bytes, told: str, flags: int = 0, **more: Any) -> wire.Reply:
        return self.hold.exchange(wire.Request(op, name, told, flags=flags, **more)).checked(told)

    def told(self, name: bytes) -> str:
        """The whole path, for errors."""
        return os.path.join(self._base.told, os.fsdecode(name))

    def ask(self, op: int, name: bytes, flags: int = 0, **more: Any) -> wire.Reply:
        """The answer about ``name``; an error is raised."""
        return self._ask(op, name, self.told(name), flags | self._flags, **more)

    def lstat(self, name: bytes) -> os.stat_result:
        """What is there."""
        return wire.stat_of(self.ask(wire.STAT, name, wire.NO_FOLLOW))

    # ---- made inside

    def mkdir(self, name: bytes, mode: int) -> bool:
        """False: there is such a directory. What else is there is a FileExistsError."""
        try:
            self.ask(wire.MKDIR, name, mode=mode)
        except FileExistsError:
            there = (
                self.lstat(name) if self._flags & wire.NO_LINKS else wire.stat_of(self.ask(wire.STAT, name))
            )
            if not modes.S_ISDIR(there.st_mode):
                raise
            return False
        return True

    def in_place(self, name: bytes, make: Callable[[], wire.Reply]) -> wire.Reply:
        """``make()``, where anything but a directory gives way to it."""
        for _ in range(_TRIES):
            try:
                return make()
            except FileExistsError:
                if modes.S_ISDIR(self.lstat(name).st_mode):
                    raise wire.failure(errno.EISDIR, self.told(name)) from None
                try:
                    self.ask(wire.UNLINK, name)
                except FileNotFoundError:
                    pass
        raise wire.failure(errno.EBUSY, self.told(name))

    def symlink(self, name: bytes, target: bytes) -> None:
        """A link; what it leads to is written as it is."""
        self.in_place(name, lambda: self.ask(wire.SYMLINK, name, second=target))

    def link(self, name: bytes, other: bytes) -> None:
        """Another name of a file that is beneath."""
        self.in_place(name, lambda: self.ask(wire.LINK, name, second=other))

    def file(self, name: bytes, mode: int, time: int, read: Read, source: int = -1) -> None:
        """A new file with all that ``read`` gives; ``source``: a regular file of the caller's, which goes faster."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        trust = self.hold.rights.home.open_flags()

        def make() -> wire.Reply:
            return self.ask(wire.OPEN, name, trust, open_flags=flags, mode=mode & _PERMISSIONS)

        reply = self.in_place(name, make)
        if reply.fd < 0:
            request = wire.Request(wire.PUMP, told=self.told(name), open_flags=flags)
            through_pipe(self.hold, request, read, None)
            self.settle(name, mode, time)
            return
        try:
            if source >= 0:
                pour(self.hold, source, reply.fd, os.fstat(source).st_size)
            else:
                while piece := read(1 << 20):
                    write_all(reply.fd, piece)
            settled = _settled(reply.fd, mode, time)
        finally:
            os.close(reply.fd)
        if not settled:
            self.settle(name, mode, time)

    def settle(self, name: bytes, mode: int, time: int) -> None:
        """Mode and time, when all is in it."""
        self.ask(wire.CHMOD, name, wire.NO_FOLLOW, mode=mode & _PERMISSIONS)
        self.ask(wire.TOUCH, name, wire.GIVEN_TIME | wire.NO_FOLLOW, time=time)

    # ---- read inside

    def names(self, name: bytes) -> list[tuple[str, int]]:
        """All names of the directory, none of which leads anywhere but into it."""
        return self.hold.rights.held(ops.all_names(Name(name, self.told(name)), self._flags), self.hold)

    def readlink(self, name: bytes) -> bytes:
        """What the link says."""
        return self.ask(wire.READLINK, name).body

    def open(self, name: bytes) -> int:
        """A descriptor of the regular file, or -1: it must be read through a pipe."""
        trust = self.hold.rights.home.open_flags() | wire.NO_FOLLOW
        return self.ask(wire.OPEN, name, trust, open_flags=os.O_RDONLY).fd

    def fetch(self, name: bytes, make: Callable[[], int]) -> None:
        """The contents of a regular file into what ``make()`` opens, the caller's new one, which gets its mode and time."""
        fd = self.open(name)
        target = -1
        try:
            target = make()
            if fd < 0:
                self.piped(name, target)
            info = self.lstat(name) if fd < 0 else os.fstat(fd)
            if fd >= 0:
                pour(self.hold, fd, target, info.st_size)
            os.fchmod(target, info.st_mode & _PERMISSIONS)
            os.utime(target, ns=(info.st_mtime_ns, info.st_mtime_ns))
        finally:
            for each in (fd, target):
                if each >= 0:
                    os.close(each)

    def piped(self, name: bytes, target: int) -> None:
        """The contents of what was just opened, but not handed out."""
        through_pipe(
            self.hold,
            wire.Request(wire.PUMP, told=self.told(name)),
            None,
            lambda data: os.write(target, data),
        )


def _settled(fd: int, mode: int, time: int) -> bool:
    """Sets what the user has just made, by his descriptor; False: to this machine it is another's."""
    try:
        os.fchmod(fd, mode & _PERMISSIONS)
        os.utime(fd, ns=(time, time))
    except PermissionError:
        return False
    return True


def write_all(fd: int, data: bytes) -> None:
    """A regular file takes less than all of it where its disk is full; the next call says so."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def refuse(told: str) -> OSError:
    """A device, a pipe or a socket is nothing that can be copied."""
    return wire.failure(errno.EOPNOTSUPP, told)


# ---- in


def copy_in(hold: Hold, source: str, target: Name) -> None:
    """``source``, the caller's file or directory, as ``target``, or beneath it where that is a directory."""
    is_directory = modes.S_ISDIR(hold.rights.held(ops.mode_of(target), hold))
    bring_in(is_directory, lambda base: Beneath(hold, base), source, target)


def is_contents(source: object) -> bool:
    """docker's word for what is in a directory, without itself."""
    return isinstance(source, str) and (source == "." or source.endswith("/."))


def bring_in(is_directory: bool, of: Callable[[Name], Beneath], source: str, target: Name) -> None:
    """The same into whatever ``of`` makes of a directory. ``is_directory``: the target is one."""
    name = "" if is_contents(source) else os.path.basename(os.path.abspath(source))
    if is_directory:
        into, first = target, os.fsencode(name)
    elif target.told.endswith("/"):
        raise wire.failure(errno.ENOENT, target.told)
    else:
        above = os.path.dirname(target.name)
        into, first = Name(above, os.path.dirname(target.told) or "."), os.path.basename(target.name)
    beneath = of(into)
    top = os.lstat(source)
    if modes.S_ISDIR(top.st_mode):
        fd = os.open(source, _DIRECTORY)
        _tree_in(beneath, fd, first, source)
    else:
        _one_in(beneath, None, source, first, top, source)


def _one_in(
    beneath: Beneath, directory: int | None, name: str, to: bytes, info: os.stat_result, told: str
) -> None:
    """Anything but a directory."""
    if modes.S_ISLNK(info.st_mode):
        beneath.symlink(to, os.fsencode(os.readlink(name, dir_fd=directory)))
        return
    if not modes.S_ISREG(info.st_mode):
        raise refuse(told)
    # O_NONBLOCK: it may have become a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=directory)
    try:
        info = os.fstat(fd)
        if not modes.S_ISREG(info.st_mode):
            raise refuse(told)
        beneath.file(to, info.st_mode, info.st_mtime_ns, lambda size: os.read(fd, size), fd)
    finally:
        os.close(fd)


class _Level:
    """One directory of the caller's on the way down; closes ``fd`` in the end."""

    def __init__(self, fd: int, name: bytes, told: str, made: bool = True) -> None:
        self.fd: int = fd
        self.name: bytes = name
        self.told: str = told
        self.made: bool = made
        self.left: list[Any] = []


def _tree_in(beneath: Beneath, top: int, first: bytes, told: str) -> None:
    stack = [_Level(top, first, told)]
    try:
        _enter_in(beneath, stack[0])
        while stack:
            level = stack[-1]
            if not level.left:
                info = os.fstat(level.fd)
                if level.made:
                    beneath.settle(level.name or b".", info.st_mode, info.st_mtime_ns)
                os.close(stack.pop().fd)
                continue
            name = level.left.pop()
            info = os.lstat(name, dir_fd=level.fd)
            to, inner_told = os.path.join(level.name, os.fsencode(name)), os.path.join(level.told, name)
            if not modes.S_ISDIR(info.st_mode):
                _one_in(beneath, level.fd, name, to, info, inner_told)
                continue
            if len(stack) == _DEEPEST:
                raise wire.failure(errno.ENAMETOOLONG, inner_told)
            stack.append(_Level(os.open(name, _DIRECTORY, dir_fd=level.fd), to, inner_told))
            _enter_in(beneath, stack[-1])
    finally:
        for level in stack:
            os.close(level.fd)


def _enter_in(beneath: Beneath, level: _Level) -> None:
    level.left = sorted(os.listdir(level.fd), reverse=True)
    # Nobody but the user has it until all is in it.
    level.made = beneath.mkdir(level.name, 0o700) if level.name else False


# ---- out


def copy_out(hold: Hold, source: Name, target: str, contents: bool = False) -> None:
    """The file or directory ``source`` inside as ``target``, or beneath it where that is a directory of the caller's.
    ``contents``: what is in the directory, without itself."""
    info = hold.rights.held(ops.stat(source, contents), hold)
    if contents and not modes.S_ISDIR(info.st_mode):
        raise wire.failure(errno.ENOTDIR, source.told)
    take_out(info.st_mode, lambda base: Beneath(hold, base), source, target, contents)


def take_out(
    mode: int, beneath: Callable[[Name], Beneath], source: Name, target: str, contents: bool = False
) -> None:
    """The same of whatever ``beneath`` reads. ``mode``: the source's."""
    into, name = _place_outside(target, "" if contents else os.fsdecode(os.path.basename(source.name)))
    try:
        if modes.S_ISDIR(mode):
            _tree_out(beneath(source), into, name, target)
            return
        above = Name(os.path.dirname(source.name), os.path.dirname(source.told))
        _one_out(beneath(above), into, name, os.path.basename(source.name), mode)
    finally:
        os.close(into)


def _place_outside(target: str, name: str) -> tuple[int, str]:
    """A descriptor of the directory to make it in, and the name that it gets there; empty: it is that directory."""
    try:
        info = os.lstat(target)
    except FileNotFoundError:
        if target.endswith("/"):
            raise
    else:
        if modes.S_ISLNK(info.st_mode):
            raise wire.failure(errno.ELOOP, target)
        if modes.S_ISDIR(info.st_mode):
            return os.open(target, _DIRECTORY), name
    above, last = os.path.split(target)
    return os.open(above or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), last


def _one_out(beneath: Beneath, directory: int, name: str, source: bytes, mode: int) -> None:
    """Anything but a directory."""
    if modes.S_ISLNK(mode):
        link = beneath.readlink(source)
        _new(directory, name, lambda: os.symlink(link, os.fsencode(name), dir_fd=directory))
        return
    if not modes.S_ISREG(mode):
        raise refuse(beneath.told(source))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    beneath.fetch(
        source, lambda: _new(directory, name, lambda: os.open(name, flags, 0o600, dir_fd=directory))
    )


def _new(directory: int, name: str, make: Callable[[], T]) -> T:
    """``make()``; a file or link that is there gives way, and nothing is written through it."""
    for _ in range(_TRIES):
        try:
            return make()
        except FileExistsError:
            try:
                os.unlink(name, dir_fd=directory)  # a directory is an IsADirectoryError
            except FileNotFoundError:
                pass
    raise wire.failure(errno.EBUSY, name)


def _tree_out(beneath: Beneath, into: int, name: str, told: str) -> None:
    stack = [_enter_out(beneath, into, name, b"", told)]
    try:
        while stack:
            level = stack[-1]
            if not level.left:
                if level.made:
                    info = beneath.lstat(level.name)
                    os.fchmod(level.fd, info.st_mode & _PERMISSIONS)
                    os.utime(level.fd, ns=(info.st_mtime_ns, info.st_mtime_ns))
                os.close(stack.pop().fd)
                continue
            name, kind = level.left.pop()
            source = os.path.join(level.name, os.fsencode(name))
            mode = _MODES.get(kind) or beneath.lstat(source).st_mode
            if not modes.S_ISDIR(mode):
                _one_out(beneath, level.fd, name, source, mode)
                continue
            if len(stack) == _DEEPEST:
                raise wire.failure(errno.ENAMETOOLONG, beneath.told(source))
            stack.append(_enter_out(beneath, level.fd, name, source, os.path.join(level.told, name)))
    finally:
        for level in stack:
            os.close(level.fd)


_MODES = {wire.DIRECTORY: modes.S_IFDIR, wire.REGULAR: modes.S_IFREG, wire.LINK_TYPE: modes.S_IFLNK}


def _enter_out(beneath: Beneath, directory: int, name: str, source: bytes, told: str) -> _Level:
    made = False
    if name:
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
            made = True
        except FileExistsError:
            pass
    try:
        fd = os.open(name or ".", _DIRECTORY, dir_fd=directory)
    except OSError as error:
        raise wire.failure(error.errno or 0, told) from None
    level = _Level(fd, source, told, made)
    try:
        level.left = beneath.names(source)
    except BaseException:
        os.close(fd)
        raise
    return level
