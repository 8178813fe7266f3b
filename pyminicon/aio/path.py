"""A path inside a container, on an event loop: what anyio.Path is to pathlib.Path."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

from pyminicon.aio import files
from pyminicon.inside import ops, walks
from pyminicon.inside.lexical import PathInside
from pyminicon.inside.path import ContainerPath

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable
    from typing import IO, Any

    from pyminicon.inside.lexical import Bytes, PathWords


class AsyncContainerPath(PathInside):
    """A file or directory inside a container that lives; made by ``AsyncContainer.path``.

    What :class:`pyminicon.inside.path.ContainerPath` has, to be awaited; ``iterdir``, ``glob``, ``rglob`` and ``walk``
    are asynchronous iterators.
    """

    __slots__ = ()

    def _waiting(self) -> ContainerPath:
        return ContainerPath(self._rights, self._pure)

    # ---- what is there

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As os.stat; user and group as they are inside."""
        return await files.run(self._rights, ops.stat(self._named(), follow_symlinks))

    async def lstat(self) -> os.stat_result:
        """As os.lstat."""
        return await self.stat(follow_symlinks=False)

    async def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether something is there; a link to nothing isn't."""
        return await files.run(self._rights, ops.mode_of(self._named(), follow_symlinks)) != 0

    async def is_file(self) -> bool:
        """Whether it is a regular file, or a link to one."""
        return await files.run(self._rights, ops.is_kind(self._named(), ops.REGULAR))

    async def is_dir(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return await files.run(self._rights, ops.is_kind(self._named(), ops.DIRECTORY))

    async def is_symlink(self) -> bool:
        """Whether it is a link, wherever that leads."""
        return await files.run(self._rights, ops.is_kind(self._named(), ops.LINK, False))

    async def readlink(self) -> AsyncContainerPath:
        """What a link leads to, as it is written."""
        return self._with(PurePosixPath(await files.run(self._rights, ops.readlink(self._named()))))

    # ---- contents

    async def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncFile:
        """As ContainerPath.open; ``async with await path.open() as file``."""
        if "b" not in mode:
            encoding = io.text_encoding(encoding)
        path = self._waiting()
        opened = await files.in_a_thread(
            lambda: path.open(mode, buffering, encoding, errors, newline), lambda file: file.close()
        )
        return AsyncFile(opened)

    async def read_bytes(self) -> bytes:
        """The whole file."""
        return await files.in_a_thread(self._waiting().read_bytes)

    async def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The whole file, decoded."""
        encoding = io.text_encoding(encoding)
        path = self._waiting()
        return await files.in_a_thread(lambda: path.read_text(encoding, errors))

    async def write_bytes(self, data: Bytes) -> int:
        """Makes the file, or empties it, and writes ``data``."""
        path = self._waiting()
        return await files.in_a_thread(lambda: path.write_bytes(data))

    async def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Likewise, encoded."""
        encoding = io.text_encoding(encoding)
        path = self._waiting()
        return await files.in_a_thread(lambda: path.write_text(data, encoding, errors, newline))

    # ---- directories

    async def iterdir(self) -> AsyncIterator[AsyncContainerPath]:
        """What is in the directory, in no order, as it is read."""
        async for names in files.iterate(self._rights, walks.iterdir(self._named())):
            for name in names:
                yield self._with(self._pure / name)

    def glob(self, pattern: str) -> AsyncIterator[AsyncContainerPath]:
        """What is beneath and matches, as pathlib has it; ``**`` doesn't follow links."""
        return self._globbed(*walks.parse(pattern, False))

    def rglob(self, pattern: str) -> AsyncIterator[AsyncContainerPath]:
        """As glob with ``**/`` before the pattern."""
        return self._globbed(*walks.parse(pattern, True))

    async def _globbed(self, parts: tuple[str, ...], directories: bool) -> AsyncIterator[AsyncContainerPath]:
        async for names in files.iterate(self._rights, walks.glob(self._named(), parts, directories)):
            for name in names:
                yield self._with(self._pure / name)

    async def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> AsyncIterator[tuple[AsyncContainerPath, list[str], list[str]]]:
        """As ContainerPath.walk."""
        op = walks.walk(self._named(), top_down, on_error, follow_symlinks)
        async for found in files.iterate(self._rights, op):
            for where, directories, names in found:
                yield self._with(self._pure / where), directories, names

    # ---- changes

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the directory, with ``parents`` those above as well."""
        await files.run(self._rights, ops.mkdir(self._named(), mode, parents, exist_ok))

    async def unlink(self, missing_ok: bool = False) -> None:
        """Removes a file or link."""
        await files.run(self._rights, ops.unlink(self._named(), missing_ok))

    async def rmdir(self) -> None:
        """Removes an empty directory."""
        await files.run(self._rights, ops.rmdir(self._named()))

    async def rmtree(self) -> None:
        """Removes the directory with all that is in it, through no link and into no other mount."""
        await files.run(self._rights, ops.rmtree(self._named()))

    async def rename(self, target: PathWords) -> AsyncContainerPath:
        """Moves it, and gives the new path. A file that is there is replaced."""
        to = self._other(target)
        await files.run(self._rights, ops.rename(self._named(), to._named()))
        return to

    async def replace(self, target: PathWords) -> AsyncContainerPath:
        """The same as rename, as everywhere on Linux."""
        return await self.rename(target)

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """As os.chmod; a link itself has no mode (NotImplementedError)."""
        if not follow_symlinks:
            raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
        await files.run(self._rights, ops.chmod(self._named(), mode))

    async def symlink_to(self, target: PathWords, target_is_directory: bool = False) -> None:
        """Makes this a link to ``target``, which is written as it is given."""
        await files.run(self._rights, ops.symlink(self._named(), self._as_written(target)))

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Makes an empty file, or gives the one that is there the time of now."""
        await files.run(self._rights, ops.touch(self._named(), mode, exist_ok))


class AsyncFile:
    """An open file whose methods are awaited; ``wrapped`` is the file itself. ``async with`` closes it, ``async for``
    reads its lines."""

    def __init__(self, wrapped: IO[Any]) -> None:
        self.wrapped: IO[Any] = wrapped

    async def __aenter__(self) -> AsyncFile:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncFile:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def fileno(self) -> int:
        """Its descriptor."""
        return self.wrapped.fileno()

    async def aclose(self) -> None:
        """Writes what is left and closes it."""
        await files.in_a_thread(self.wrapped.close)

    async def read(self, size: int = -1) -> Any:
        """So much of it, or all that is left."""
        return await files.in_a_thread(lambda: self.wrapped.read(size))

    async def readline(self) -> Any:
        """The next line; empty at the end."""
        return await files.in_a_thread(self.wrapped.readline)

    async def readlines(self) -> list[Any]:
        """All lines that are left."""
        return await files.in_a_thread(self.wrapped.readlines)

    async def write(self, data: Any) -> int:
        """How much was written."""
        return await files.in_a_thread(lambda: self.wrapped.write(data))

    async def writelines(self, lines: Any) -> None:
        """All of them."""
        await files.in_a_thread(lambda: self.wrapped.writelines(lines))

    async def flush(self) -> None:
        """Hands on what is still here."""
        await files.in_a_thread(self.wrapped.flush)

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new place."""
        return await files.in_a_thread(lambda: self.wrapped.seek(offset, whence))

    async def tell(self) -> int:
        """The place."""
        return await files.in_a_thread(self.wrapped.tell)

    async def truncate(self, size: int | None = None) -> int:
        """The new length."""
        return await files.in_a_thread(lambda: self.wrapped.truncate(size))
