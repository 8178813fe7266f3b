"""Directories with one owner at a time, and work in progress that a kill can't turn into a mess.

The lock is flock(2) on the directory itself: it goes when the owner dies, however it dies. After
getting it one looks again whether the name still leads to what was locked: the owner before may
have renamed the directory (published it) or removed it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from . import tree
from .lookup import private, read_small

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_still(path: str, fd: int) -> bool:
    """Whether ``path`` leads to what ``fd`` is open on."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) and here.st_nlink > 0


def lock(path: str, kind: int, flags: int = _DIRECTORY) -> int | None:
    """A locked descriptor of ``path``; None when it isn't there, or ``kind`` has LOCK_NB and
    somebody's lock is in the way."""
    try:
        fd = private(os.open(path, flags))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, kind)
        if is_still(path, fd):
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def wait_lock(path: str, check: Callable[[], None] | None = None) -> int:
    """The exclusive lock of directory ``path``, which is made when missing.

    ``check`` is called about ten times a second while somebody else has it; what it raises ends
    the wait (a Ctrl-C in another thread, say).
    """
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if fd is not None:
            return fd
        if check is not None:
            check()
        time.sleep(0.1 if check is not None else 0.02)


class Staging:
    """A locked directory below tmp/ in which something is made; a context manager.

    What a killed owner left in it is removed first. At the end whatever wasn't published goes.
    ``path`` (str): the directory. ``fs`` (str): ``path/fs``, made empty, for a layer's tree.
    """

    __slots__ = ("_fd", "fs", "path")

    def __init__(self, path: str, check: Callable[[], None] | None = None) -> None:
        self._fd = wait_lock(path, check)
        self.path: str = path
        self.fs: str = f"{path}/fs"
        try:
            tree.empty(path)
            os.mkdir(self.fs, 0o755)
            os.chmod(self.fs, 0o755)
        except BaseException:
            os.close(self._fd)
            raise

    def publish(self, target: str) -> bool:
        """Rename the directory to ``target``; False when somebody has been there before."""
        try:
            os.rename(self.path, target)
        except OSError:
            if os.path.isdir(target):
                return False
            raise
        return True

    def share(self, target: str) -> int | None:
        """A shared lock on what was published as ``target``, in exchange for the exclusive one.

        None when somebody removed it between the two: flock(2) doesn't convert in one step.
        """
        fd = private(os.dup(self._fd))
        fcntl.flock(fd, fcntl.LOCK_SH)
        if is_still(target, fd):
            return fd
        os.close(fd)
        return None

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if is_still(self.path, self._fd):
                tree.remove(self.path)
        finally:
            os.close(self._fd)


def sweep(directory: str, tolerant: bool = False) -> int:
    """Remove what nobody holds in ``directory`` (leftovers of the killed); how many there were.

    ``tolerant``: leave what can't be removed (an ordinary user's container may have made files that belong
    to its own ids).
    """
    count = 0
    for name in os.listdir(directory):
        try:
            count += _remove_unheld(f"{directory}/{name}")
        except OSError:
            if not tolerant:
                raise
    return count


def _remove_unheld(path: str) -> bool:
    fd = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if fd is None:
        return False
    try:
        tree.remove(path)
    finally:
        os.close(fd)
    return True


class StoreLock:
    """The store's own lock: held for moments, by whoever changes names or records."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> StoreLock:
        self._fd = private(os.open(f"{self._path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, name: str) -> bytes | None:
        return read_small(f"{self._path}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Replace a file in one step. A leftover of a killed writer is simply overwritten."""
        draft = f"{self._path}/draft"
        with open(draft, "wb") as file:
            file.write(data)
        os.rename(draft, f"{self._path}/{name}")
