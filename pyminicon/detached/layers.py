"""The files of a container that has ended: its private layer, over what lay beneath it, put together as overlayfs does.

Names in it were chosen by a stranger, so each directory is a descriptor and none is opened through a link; links on the
way are followed within the container's root.
"""

from __future__ import annotations

import errno
import os
import stat

from pyminicon.errors import Error
from pyminicon.inside import archives, copying, wire
from pyminicon.inside.ops import Name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO, Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_MOST_LINKS = 40


class _Directory:
    """One directory of the container: the same of several layers, from the top down."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def __enter__(self) -> _Directory:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds:
            os.close(fd)

    def find(self, name: bytes) -> tuple[int, os.stat_result] | None:
        """The layer's directory that has the name, and what that is; None where it isn't there, or isn't any more."""
        for fd in self.fds:
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            return None if is_whiteout(found) else (fd, found)
        return None

    def below(self, name: bytes) -> _Directory:
        """The directory of that name."""
        return _shown(self._opened(name))

    def _opened(self, name: bytes) -> Iterator[int]:
        for fd in self.fds:
            try:
                about = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(about.st_mode):
                return  # a whiteout, or a file that a directory above has replaced
            yield os.open(name, _DIRECTORY, dir_fd=fd)

    def names(self) -> list[bytes]:
        """Those that are there."""
        found: dict[bytes, bool] = {}
        for fd in self.fds:
            for name in os.listdir(fd):
                found.setdefault(os.fsencode(name), True)
        return [name for name in found if self.find(name) is not None]


def is_whiteout(about: os.stat_result) -> bool:
    return stat.S_ISCHR(about.st_mode) and about.st_rdev == 0


def _shown(opened: Iterable[int]) -> _Directory:
    """The directory that these are put together, from the top down to one that hides what is beneath it."""
    found = _Directory([])
    try:
        for fd in opened:
            found.fds.append(fd)
            if _is_opaque(fd):
                break
    except BaseException:
        found.__exit__()
        raise
    return found


def _opened_tops(paths: Iterable[str]) -> Iterator[int]:
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            return
        except FileNotFoundError:
            continue
        yield fd


def _is_opaque(fd: int) -> bool:
    for name in OPAQUE:
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:
            continue
    return False


class Layers:
    """All of them, of one container. Raises Error where none was kept."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._kept: Any = fields["kept"]
        if self._kept is None:
            why = fields.get("layer_lost") or (
                "it was in memory, and went with it"
                if fields["status"] == "exited"
                else "its keeper was killed"
            )
            if any(tree["upper"] for tree in fields["trees"]):
                raise Error(f"container {fields['name']} has ended, and no layer is left of it: {why}")
        self._trees: dict[bytes, dict[str, Any]] = {}
        for tree in fields["trees"]:
            self._trees[os.fsencode(tree["at"])] = tree

    @property
    def kept(self) -> str:
        """Where the private layer lies."""
        return str(self._kept)

    @property
    def opaque(self) -> str:
        """The mark of a directory that hides what lies beneath it."""
        return str(self._trees[b"/"].get("opaque") or OPAQUE[0 if os.geteuid() == 0 else 1])

    def is_top(self, path: bytes) -> bool:
        """Whether something was mounted there."""
        return path in self._trees

    def upper_of(self, path: bytes) -> tuple[bytes, str]:
        """Where the mount is that has the directory, and what of the layer lies there. Raises OSError where it was none
        of the layer's: a volume, a tmpfs, something read-only."""
        at = path
        while at not in self._trees:
            at = os.path.dirname(at)
        upper = self._trees[at]["upper"]
        if upper is None or self._kept is None:
            raise wire.failure(errno.EROFS, os.fsdecode(path))
        return at, upper

    def _top(self, at: bytes) -> _Directory:
        tree = self._trees[at]
        paths = [*([f"{self._kept}/{tree['upper']}"] if tree["upper"] else []), *tree["lowers"]]
        return _shown(_opened_tops(paths))

    def directory(self, path: bytes) -> _Directory:
        """``path`` has no link in it."""
        here = self._top(b"/")
        at = b""
        for name in path.split(b"/"):
            if not name:
                continue
            at += b"/" + name
            with here:
                here = self._top(at) if at in self._trees else here.below(name)
        return here

    def lstat(self, path: bytes) -> os.stat_result:
        """Raises FileNotFoundError."""
        if path in (b"", b"/") or (path in self._trees and self._is_directory(path)):
            with self.directory(path) as top:
                if top.fds:
                    return os.fstat(top.fds[0])
        if path in self._trees and self._trees[path]["lowers"]:
            return os.stat(self._trees[path]["lowers"][0])
        with self.directory(os.path.dirname(path)) as above:
            found = above.find(os.path.basename(path))
        if found is None:
            raise wire.failure(errno.ENOENT, os.fsdecode(path))
        return found[1]

    def _is_directory(self, at: bytes) -> bool:
        with self._top(at) as top:
            return bool(top.fds)

    def open(self, path: bytes) -> int:
        """A regular file, to read."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if path in self._trees and self._trees[path]["lowers"]:
            fd = os.open(self._trees[path]["lowers"][0], flags & ~os.O_NOFOLLOW)
        else:
            with self.directory(os.path.dirname(path)) as above:
                found = above.find(os.path.basename(path))
                if found is None:
                    raise wire.failure(errno.ENOENT, os.fsdecode(path))
                fd = os.open(os.path.basename(path), flags, dir_fd=found[0])
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise copying.refuse(os.fsdecode(path))
        return fd

    def readlink(self, path: bytes) -> bytes:
        with self.directory(os.path.dirname(path)) as above:
            found = above.find(os.path.basename(path))
            if found is None:
                raise wire.failure(errno.ENOENT, os.fsdecode(path))
            return os.readlink(os.path.basename(path), dir_fd=found[0])

    def real(self, path: bytes, follow: bool = False) -> bytes:
        """``path`` with the links on the way followed, the last one where ``follow`` says so."""
        waiting = [name for name in path.split(b"/") if name not in (b"", b".")][::-1]
        here, links = b"", 0
        while waiting:
            name = waiting.pop()
            if name == b"..":
                here = os.path.dirname(here).rstrip(b"/")
                continue
            there = here + b"/" + name
            if (waiting or follow) and stat.S_ISLNK(self.lstat(there).st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise wire.failure(errno.ELOOP, os.fsdecode(path))
                target = self.readlink(there)
                here = b"" if target.startswith(b"/") else here
                waiting += [one for one in target.split(b"/") if one not in (b"", b".")][::-1]
            else:
                here = there
        return here or b"/"


class Still:
    """What stands for a worker that may be called off."""

    aborted = False


class _Beneath(copying.Beneath):
    """What is named beneath one directory of the layers."""

    def __init__(self, layers: Layers, base: Name) -> None:
        self.hold: Any = Still()
        self._layers = layers
        self._base = base

    def _path(self, name: bytes) -> bytes:
        return os.path.join(self._base.name, name).rstrip(b"/") or b"/"

    def lstat(self, name: bytes) -> os.stat_result:
        return self._layers.lstat(self._path(name))

    def names(self, name: bytes) -> list[tuple[str, int]]:
        with self._layers.directory(self._path(name)) as here:
            return [(os.fsdecode(one), 0) for one in here.names()]

    def readlink(self, name: bytes) -> bytes:
        return self._layers.readlink(self._path(name))

    def open(self, name: bytes) -> int:
        return self._layers.open(self._path(name))


def copy_out(layers: Layers, source: str, target: str) -> None:
    """As Container.copy_out."""
    name = Name(layers.real(os.fsencode(source)), source)
    copying.take_out(layers.lstat(name.name).st_mode, lambda base: _Beneath(layers, base), name, target)


def get_archive(layers: Layers, source: str) -> IO[bytes]:
    """As Container.get_archive."""
    import tempfile

    name = Name(layers.real(os.fsencode(source)), source)
    made: Any = tempfile.TemporaryFile()  # noqa: SIM115
    archives.pack(layers.lstat(name.name).st_mode, lambda base: _Beneath(layers, base), name, made.fileno())
    made.seek(0)
    archive: IO[bytes] = made
    return archive


def listed(layers: Layers, source: str) -> list[str]:
    """The names in a directory."""
    with layers.directory(layers.real(os.fsencode(source), follow=True)) as here:
        return [os.fsdecode(name) for name in here.names()]
