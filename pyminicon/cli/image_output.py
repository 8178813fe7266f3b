"""Where ``image export`` writes: a file that is there whole or not at all, or what isn't a file as it is."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@contextlib.contextmanager
def output(path: str) -> Iterator[BinaryIO]:
    """A file to write to, which is at ``path`` once the block has ended without an exception.

    ``"-"`` is standard output; a device or a pipe is written to at once. Raises SpecError naming ``path``.
    """
    if path == "-":
        yield sys.stdout.buffer
        return
    try:
        made = _Draft(os.path.realpath(path)) if _is_file(path) else None
        file = open(path, "wb") if made is None else made.file  # noqa: SIM115
    except OSError as error:
        raise SpecError("--output", f"{path}: {error.strerror}") from None
    with made or file:
        yield file


def _is_file(path: str) -> bool:
    """Whether ``path`` is a plain file, or nothing yet."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


class _Draft:
    """A file beside ``target``, renamed over it at the end or removed; a context manager."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._path = f"{os.path.dirname(target)}/.pyminicon-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.file: BinaryIO = os.fdopen(os.open(self._path, flags, 0o666), "wb")
        with contextlib.suppress(FileNotFoundError):  # what replaces a file is as private as that was
            os.fchmod(self.file.fileno(), stat.S_IMODE(os.stat(target).st_mode))

    def __enter__(self) -> _Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.file.close()
            if kind is None:
                os.rename(self._path, self._target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
