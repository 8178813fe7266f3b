"""An image as one tar again: the layers laid over each other, as overlayfs would show them.

Done by reading, not by mounting: it needs no privilege, and nothing that a container sees besides
the image (its /proc, its /etc/hosts) gets into the archive.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile

from . import tree
from .errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def export(layers: list[str], out: BinaryIO, add: Callable[[int], None] = lambda _: None) -> None:
    """Write the tree that ``layers`` (directories, top first) make together to ``out`` as a PAX tar.

    Owners, modes, times, links, devices and extended attributes are kept; sockets are not, as tar
    has no way to. ``add`` is told of every file's bytes. Raises ImageError.
    """
    try:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _Merge(archive, add).all(layers)
    except OSError as error:
        raise ImageError(f"the export failed: {error.strerror or error}: {error.filename or ''}") from None


class _Merge:
    """Two descriptors at a time, however many the layers and however deep the tree: every directory is opened
    anew, name by name from its layer's root."""

    def __init__(self, archive: tarfile.TarFile, add: Callable[[int], None]) -> None:
        self._archive = archive
        self._add = add
        self._links: dict[tuple[int, int], str] = {}

    def all(self, layers: list[str]) -> None:
        waiting = [(".", layers)]
        while waiting:
            path, merged = waiting.pop()
            below = self._directory(path, merged)
            waiting += [(f"{path}/{name}", below[name]) for name in sorted(below, reverse=True)]

    def _directory(self, path: str, layers: list[str]) -> dict[str, list[str]]:
        """Write a directory, which ``layers`` show together, and the files in it; the directories in it, each
        with the layers that show it."""
        below: dict[str, list[str]] = {}
        settled: set[str] = set()  # hidden from the layers below
        for layer in layers:
            fd = _open_below(layer, path)
            try:
                if layer is layers[0]:
                    self._header(path, os.fstat(fd), fd, "")
                for name in sorted(set(os.listdir(fd)) - settled):
                    status = os.lstat(name, dir_fd=fd)
                    if stat.S_ISDIR(status.st_mode):
                        below.setdefault(name, []).append(layer)
                        if layer is not layers[-1] and _hides(name, fd):
                            settled.add(name)
                        continue
                    settled.add(name)  # a file or a whiteout hides what is below it
                    if name not in below and not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                        self._file(f"{path}/{name}", name, fd, status)
            finally:
                os.close(fd)
        return below

    def _file(self, path: str, name: str, parent: int, status: os.stat_result) -> None:
        if stat.S_ISSOCK(status.st_mode):
            return
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._links:
            info = self._info(path, status)
            info.type, info.linkname, info.size = tarfile.LNKTYPE, self._links[key], 0
            self._archive.addfile(info)
            return
        if status.st_nlink > 1:
            self._links[key] = path
        if not stat.S_ISREG(status.st_mode):
            target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(status.st_mode) else ""
            self._header(path, status, None, target)
            return
        fd = _open_file(name, parent, status)
        with os.fdopen(fd, "rb") as file:
            self._header(path, status, fd, "", file)
        self._add(status.st_size)

    def _header(
        self, path: str, status: os.stat_result, fd: int | None, target: str, file: BinaryIO | None = None
    ) -> None:
        info = self._info(path, status)
        info.linkname = target
        if fd is not None:
            info.pax_headers = {**info.pax_headers, **_attributes(fd)}
        self._archive.addfile(info, file)

    def _info(self, path: str, status: os.stat_result) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path)
        info.type = _TYPES[stat.S_IFMT(status.st_mode)]
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = status.st_uid, status.st_gid
        info.mtime = status.st_mtime_ns // 1_000_000_000
        if status.st_mtime_ns % 1_000_000_000:
            # As text: a float has not the digits for nanoseconds.
            seconds, fraction = divmod(abs(status.st_mtime_ns), 1_000_000_000)
            sign = "-" if status.st_mtime_ns < 0 else ""
            info.pax_headers = {"mtime": f"{sign}{seconds}.{fraction:09}"}
        info.size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return info


def _open_file(name: str, parent: int, status: os.stat_result) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        # Without root a file may be closed to its own owner; for the moment of the open it isn't.
        os.chmod(name, 0o600, dir_fd=parent)
        try:
            return os.open(name, flags, dir_fd=parent)
        finally:
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=parent)


def _attributes(fd: int) -> dict[str, str]:
    """Extended attributes in the spelling that GNU tar, bsdtar and docker read."""
    found = {}
    for name in os.listxattr(fd):
        if name.startswith(("trusted.", "user.overlay.", "security.selinux")):
            continue
        value = os.getxattr(fd, name).decode("utf-8", "surrogateescape")
        found[f"SCHILY.xattr.{name}"] = value
    return found


def _open_below(layer: str, path: str) -> int:
    fd = tree.open_directory(layer, keep_mode=True)
    for name in path.split("/")[1:]:
        try:
            below = tree.open_directory(name, fd, keep_mode=True)
        finally:
            os.close(fd)
        fd = below
    return fd


def _hides(name: str, parent: int) -> bool:
    """Whether a directory is opaque."""
    fd = tree.open_directory(name, parent, keep_mode=True)
    try:
        for attribute in _OPAQUE:
            with contextlib.suppress(OSError):
                if os.getxattr(fd, attribute) == b"y":
                    return True
        return False
    finally:
        os.close(fd)
