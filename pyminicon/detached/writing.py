"""Files put into a container that has ended: into its private layer, as overlayfs would have written them there.

What lies beneath the layer is never written: a directory of it is made anew in the layer before anything is put into it,
and what was deleted in the layer (a whiteout) and is a directory again hides what lies beneath (opaque).
"""

from __future__ import annotations

import errno
import os
import stat
import time

from pyminicon.detached import place
from pyminicon.detached.layers import Layers, Still, is_whiteout
from pyminicon.errors import Error
from pyminicon.inside import archives, copying, wire
from pyminicon.inside.ops import Name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from pyminicon.inside.pour import Read

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777  # no setuid, setgid, sticky
_PIECE = 1 << 20
_PATIENCE = 10.0  # seconds for somebody else who copies into the same


class _Writable(copying.Beneath):
    """What is named beneath one directory of the container."""

    def __init__(self, layers: Layers, base: Name, owner: tuple[int, int]) -> None:
        self.hold: Any = Still()
        self._layers = layers
        self._base = base
        self._owner = owner if os.geteuid() == 0 else (-1, -1)

    def _path(self, name: bytes) -> bytes:
        """With the links on the way followed, within the container."""
        whole = os.path.join(self._base.name, name)
        above, last = os.path.split(whole.rstrip(b"/"))
        if last in (b"", b"."):
            return self._layers.real(above, follow=True)
        return os.path.join(self._layers.real(above, follow=True), last)

    def lstat(self, name: bytes) -> os.stat_result:
        return self._layers.lstat(self._path(name))

    def ask(self, op: int, name: bytes, flags: int = 0, **more: Any) -> Any:
        """As far as archives ask: whether there is a directory, and that one be made."""
        if op == wire.MKDIR:
            self.mkdir(name, more["mode"], existing=False)
        else:
            self._layers.lstat(self._layers.real(os.path.join(self._base.name, name), follow=True))
        return None

    # ---- the layer

    def _directory(self, path: bytes) -> int:
        """The container's directory ``path`` in the layer, where it is made if only what lies beneath has it."""
        at, upper = self._layers.upper_of(path)
        fd = os.open(self._layers.kept, _DIRECTORY)
        here = b""
        try:
            for name in os.fsencode(upper).split(b"/"):
                fd = _step(fd, name)
            here = at.rstrip(b"/")
            for name in path[len(here) :].split(b"/"):
                if name:
                    here += b"/" + name
                    self._copy_up(fd, name, here)
                    fd = _step(fd, name)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _copy_up(self, above: int, name: bytes, path: bytes) -> None:
        info = self._layers.lstat(path)
        if not stat.S_ISDIR(info.st_mode):
            raise wire.failure(errno.ENOTDIR, os.fsdecode(path))
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            return
        fd = os.open(name, _DIRECTORY, dir_fd=above)
        try:
            if os.geteuid() == 0:
                os.fchown(fd, info.st_uid, info.st_gid)
            os.fchmod(fd, stat.S_IMODE(info.st_mode))
        finally:
            os.close(fd)

    def _own(self, fd: int, mode: int, time_ns: int) -> None:
        os.fchown(fd, *self._owner)
        os.fchmod(fd, mode & _PERMISSIONS)
        os.utime(fd, ns=(time_ns, time_ns))

    def _found(self, path: bytes) -> os.stat_result | None:
        try:
            return self._layers.lstat(path)
        except FileNotFoundError:
            return None

    # ---- made in it

    def mkdir(self, name: bytes, mode: int, existing: bool = True) -> bool:
        path = self._path(name)
        found = self._found(path)
        if found is not None:
            if not existing or not stat.S_ISDIR(found.st_mode):
                raise wire.failure(errno.EEXIST, self.told(name))
            return False
        above, last = self._directory(os.path.dirname(path)), os.path.basename(path)
        try:
            deleted = _deleted(above, last)
            made = _spare()
            os.mkdir(made, mode, dir_fd=above)
            try:
                fd = os.open(made, _DIRECTORY, dir_fd=above)
                try:
                    os.fchown(fd, *self._owner)
                    if deleted:
                        os.setxattr(fd, self._layers.opaque, b"y")
                finally:
                    os.close(fd)
                if deleted:
                    os.unlink(last, dir_fd=above)
                os.rename(made, last, src_dir_fd=above, dst_dir_fd=above)
            except BaseException:
                os.rmdir(made, dir_fd=above)
                raise
        finally:
            os.close(above)
        return True

    def settle(self, name: bytes, mode: int, time: int) -> None:
        fd = self._directory(self._path(name))
        try:
            os.fchmod(fd, mode & _PERMISSIONS)
            os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)

    def _replace(self, name: bytes, make: Any) -> None:
        """``make(directory, spare name)``, and then it takes the place of anything but a directory."""
        path = self._path(name)
        found = self._found(path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise wire.failure(errno.EISDIR, self.told(name))
        if self._layers.is_top(path):
            raise wire.failure(errno.EBUSY, self.told(name))
        above, spare = self._directory(os.path.dirname(path)), _spare()
        try:
            try:
                make(above, spare)
                os.rename(spare, os.path.basename(path), src_dir_fd=above, dst_dir_fd=above)
            except BaseException:
                try:
                    os.unlink(spare, dir_fd=above)
                except FileNotFoundError:
                    pass
                raise
        finally:
            os.close(above)

    def symlink(self, name: bytes, target: bytes) -> None:
        def make(above: int, spare: bytes) -> None:
            os.symlink(target, spare, dir_fd=above)
            os.chown(spare, *self._owner, dir_fd=above, follow_symlinks=False)

        self._replace(name, make)

    def link(self, name: bytes, other: bytes) -> None:
        there = self._path(other)
        source = self._directory(os.path.dirname(there))
        try:
            last = os.path.basename(there)
            self._replace(
                name,
                lambda above, spare: os.link(
                    last, spare, src_dir_fd=source, dst_dir_fd=above, follow_symlinks=False
                ),
            )
        finally:
            os.close(source)

    def file(self, name: bytes, mode: int, time: int, read: Read, source: int = -1) -> None:
        def make(above: int, spare: bytes) -> None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(spare, flags, 0o600, dir_fd=above)
            try:
                while piece := read(_PIECE):
                    copying.write_all(fd, piece)
                self._own(fd, mode, time)
            finally:
                os.close(fd)

        self._replace(name, make)


def _step(fd: int, name: bytes) -> int:
    """From a directory to one in it; the first is closed."""
    below = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return below


def _deleted(above: int, name: bytes) -> bool:
    """Whether the layer says that what lies beneath has no such name any more."""
    try:
        return is_whiteout(os.stat(name, dir_fd=above, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _spare() -> bytes:
    return b".pyminicon-" + os.urandom(8).hex().encode()


class Ended:
    """A container that has ended, to copy files into; ``with``: nobody removes it or copies into it meanwhile."""

    def __init__(self, directory: str, fields: dict[str, Any]) -> None:
        self._directory = directory
        self._name = fields["name"]
        self._layers = Layers(fields)
        self._owner: tuple[int, int] = tuple(fields.get("owner", (-1, -1)))

    def __enter__(self) -> Ended:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._lock = place.take(self._directory)
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Error(f"container {self._name}: somebody else is at its files") from None
                time.sleep(0.005)
            except FileNotFoundError:
                raise place.NoSuchContainer(f"no such container: {self._name}") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def _beneath(self, base: Name) -> _Writable:
        return _Writable(self._layers, base, self._owner)

    def _named(self, target: str) -> Name:
        """A link at its end is followed to a directory, and is itself what is replaced otherwise."""
        path = os.fsencode(target)
        try:
            followed = self._layers.real(path, follow=True)
            if stat.S_ISDIR(self._layers.lstat(followed).st_mode):
                return Name(followed, target)
        except FileNotFoundError:
            pass
        return Name(self._layers.real(path), target)

    def is_directory(self, target: str) -> bool:
        """Whether it is one, or a link to one."""
        try:
            return stat.S_ISDIR(self._layers.lstat(self._named(target).name).st_mode)
        except FileNotFoundError:
            return False

    def mkdir(self, target: str) -> None:
        """A new one."""
        name = self._named(target)
        above = Name(os.path.dirname(name.name), os.path.dirname(target))
        self._beneath(above).mkdir(os.path.basename(name.name), 0o755)

    def copy_in(self, source: str, target: str) -> None:
        """As Container.copy_in."""
        copying.bring_in(self.is_directory(target), self._beneath, source, self._named(target))

    def put_archive(self, target: str, tar: IO[bytes]) -> None:
        """As Container.put_archive."""
        if not self.is_directory(target):
            missing = errno.ENOENT if not self._exists(target) else errno.ENOTDIR
            raise wire.failure(missing, target)
        archives.unpack(self._beneath(self._named(target)), tar)

    def _exists(self, target: str) -> bool:
        try:
            self._layers.lstat(self._named(target).name)
        except FileNotFoundError:
            return False
        return True
