"""Trees of unknown make: entered and removed through descriptors, never through a link.

A layer's names were chosen by a stranger. They may nest deeper than PATH_MAX or Python's stack
allows and, without root, hold directories that their owner can't read. So: one descriptor at a
time, no recursion, ``..`` of a directory that nobody moves meanwhile (the caller holds its lock).
"""

from __future__ import annotations

import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(name: str, parent: int | None = None, keep_mode: bool = False) -> int:
    """A descriptor of a directory, made readable first where its owner may not read it.

    ``keep_mode``: only for the moment of the open.
    """
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # Not through a link: the lstat can't be outrun, nobody else writes in here.
        mode = os.lstat(name, dir_fd=parent).st_mode
        if not stat.S_ISDIR(mode):
            raise
        os.chmod(name, 0o700, dir_fd=parent)
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        finally:
            if keep_mode:
                os.chmod(name, stat.S_IMODE(mode), dir_fd=parent)


def _up(fd: int) -> int:
    parent = os.open("..", _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return parent


def remove(path: str, parent: int | None = None) -> None:
    """Remove a file or a whole tree; one that isn't there is fine."""
    try:
        if not stat.S_ISDIR(os.lstat(path, dir_fd=parent).st_mode):
            os.unlink(path, dir_fd=parent)
            return
        empty(path, parent)
        os.rmdir(path, dir_fd=parent)
    except FileNotFoundError:
        pass


def empty(path: str, parent: int | None = None) -> None:
    """Remove everything in a directory and keep the directory."""
    fd = open_directory(path, parent)
    try:
        names: list[str] = []
        pending = [_unlink_files(fd)]
        while True:
            if pending[-1]:
                names.append(pending[-1].pop())
                child = open_directory(names[-1], fd)
                os.close(fd)
                fd = child
                pending.append(_unlink_files(fd))
                continue
            pending.pop()
            if not pending:
                return
            fd = _up(fd)
            os.rmdir(names.pop(), dir_fd=fd)
    finally:
        os.close(fd)


def _unlink_files(fd: int) -> list[str]:
    """Unlink what isn't a directory; the names of what is."""
    directories = []
    with os.scandir(fd) as entries:
        found = list(entries)
    if found and os.fstat(fd).st_mode & 0o300 != 0o300 and os.geteuid():
        os.fchmod(fd, 0o700)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=fd)
    return directories
