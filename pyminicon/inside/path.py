"""A path inside a container, with the methods of pathlib.Path."""

from __future__ import annotations

import io
import os
from pathlib import PurePosixPath

from pyminicon.inside import ops, streams, walks
from pyminicon.inside.home import Hold
from pyminicon.inside.lexical import PathInside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from pyminicon.inside.lexical import Bytes, PathWords


class ContainerPath(PathInside):
    """A file or directory inside a container that lives; made by ``Container.path``.

    Its methods are those of pathlib.Path, done inside with the rights of a user: names are resolved by the
    container's own mounts and links, and never lead out of it. Errors are the subclasses of OSError, with ``filename``.
    A file system that doesn't answer within ten seconds is a TimeoutError. It isn't an ``os.PathLike``.
    """

    __slots__ = ()

    # ---- what is there

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As os.stat; user and group as they are inside."""
        return self._rights.run(ops.stat(self._named(), follow_symlinks))

    def lstat(self) -> os.stat_result:
        """As os.lstat."""
        return self.stat(follow_symlinks=False)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether something is there; a link to nothing isn't."""
        return self._rights.run(ops.mode_of(self._named(), follow_symlinks)) != 0

    def is_file(self) -> bool:
        """Whether it is a regular file, or a link to one."""
        return self._rights.run(ops.is_kind(self._named(), ops.REGULAR))

    def is_dir(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return self._rights.run(ops.is_kind(self._named(), ops.DIRECTORY))

    def is_symlink(self) -> bool:
        """Whether it is a link, wherever that leads."""
        return self._rights.run(ops.is_kind(self._named(), ops.LINK, False))

    def readlink(self) -> ContainerPath:
        """What a link leads to, as it is written."""
        return self._with(PurePosixPath(self._rights.run(ops.readlink(self._named()))))

    # ---- contents

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """As the built-in open.

        The file is on a descriptor that was opened inside, if it is a regular one on the container's layer, a tmpfs
        or a disk; else it is read or written through a pipe, can't seek, and must be one of both. Devices, pipes and
        sockets are refused, unopened.
        """
        if "b" not in mode:
            encoding = io.text_encoding(encoding)
        named, rights = self._named(), self._rights
        hold = Hold(rights)

        def descriptor(flags: int) -> int:
            fd = rights.held(ops.open_descriptor(named, flags, flags=rights.home.open_flags()), hold)
            if fd < 0:
                raise streams.NeedsPipe
            hold.over()
            return fd

        def through_pipe(flags: int) -> streams.PipeFile:
            worker = hold.release()
            try:
                return streams.PipeFile(rights.home, worker, named.told, flags)
            except BaseException:
                worker.discard()
                raise

        try:
            made: IO[Any] = streams.open_file(
                named.told, mode, buffering, encoding, errors, newline, descriptor, through_pipe
            )
        except BaseException as error:
            hold.failed(error)
            raise
        return made

    def read_bytes(self) -> bytes:
        """The whole file, as long as it is when it is opened: one that grows without end isn't followed."""
        with self.open("rb", buffering=0) as file:
            return streams.contents(file)

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Likewise, decoded."""
        encoding = io.text_encoding(encoding)
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding, errors).read()

    def write_bytes(self, data: Bytes) -> int:
        """Makes the file, or empties it, and writes ``data``."""
        view = memoryview(data)  # a TypeError before anything is emptied
        with self.open("wb") as file:
            return file.write(view)

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Likewise, encoded."""
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        encoding = io.text_encoding(encoding)
        with self.open("w", encoding=encoding, errors=errors, newline=newline) as file:
            return file.write(data)

    # ---- directories

    def iterdir(self) -> Iterator[ContainerPath]:
        """What is in the directory, in no order, as it is read: a directory of any length takes no memory."""
        for names in self._rights.iterate(walks.iterdir(self._named())):
            for name in names:
                yield self._with(self._pure / name)

    def glob(self, pattern: str) -> Iterator[ContainerPath]:
        """What is beneath and matches, as pathlib has it; ``**`` doesn't follow links."""
        return self._globbed(*walks.parse(pattern, False))

    def rglob(self, pattern: str) -> Iterator[ContainerPath]:
        """As glob with ``**/`` before the pattern."""
        return self._globbed(*walks.parse(pattern, True))

    def _globbed(self, parts: tuple[str, ...], directories: bool) -> Iterator[ContainerPath]:
        for names in self._rights.iterate(walks.glob(self._named(), parts, directories)):
            for name in names:
                yield self._with(self._pure / name)

    def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> Iterator[tuple[ContainerPath, list[str], list[str]]]:
        """As pathlib.Path.walk: (path, names of directories, names of files). Whoever removes names of the second while it goes
        down isn't led there. A directory of more than a million names is an OSError."""
        items = self._rights.iterate(walks.walk(self._named(), top_down, on_error, follow_symlinks))
        for found in items:
            for where, directories, files in found:
                yield self._with(self._pure / where), directories, files

    # ---- changes

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the directory, with ``parents`` those above as well."""
        self._rights.run(ops.mkdir(self._named(), mode, parents, exist_ok))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes a file or link."""
        self._rights.run(ops.unlink(self._named(), missing_ok))

    def rmdir(self) -> None:
        """Removes an empty directory."""
        self._rights.run(ops.rmdir(self._named()))

    def rmtree(self) -> None:
        """Removes the directory with all that is in it, through no link and into no other mount."""
        self._rights.run(ops.rmtree(self._named()))

    def rename(self, target: PathWords) -> ContainerPath:
        """Moves it, and gives the new path. A file that is there is replaced."""
        to = self._other(target)
        self._rights.run(ops.rename(self._named(), to._named()))
        return to

    def replace(self, target: PathWords) -> ContainerPath:
        """The same as rename, as everywhere on Linux."""
        return self.rename(target)

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """As os.chmod; a link itself has no mode (NotImplementedError)."""
        if not follow_symlinks:
            raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
        self._rights.run(ops.chmod(self._named(), mode))

    def symlink_to(self, target: PathWords, target_is_directory: bool = False) -> None:
        """Makes this a link to ``target``, which is written as it is given."""
        self._rights.run(ops.symlink(self._named(), self._as_written(target)))

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Makes an empty file, or gives the one that is there the time of now."""
        self._rights.run(ops.touch(self._named(), mode, exist_ok))
