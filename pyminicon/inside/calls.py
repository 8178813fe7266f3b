"""What a container offers of its files, for whoever waits in a thread."""

from __future__ import annotations

import os

from pyminicon.inside import archives, copying
from pyminicon.inside.home import Home, Rights
from pyminicon.inside.lexical import pure
from pyminicon.inside.ops import Name
from pyminicon.inside.path import ContainerPath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from pyminicon.inside.home import Hold
    from pyminicon.inside.lexical import PathWords


def path(home: Home, words: PathWords, user: str | None = None, strict: bool = False) -> ContainerPath:
    """A path inside, worked on as ``user``."""
    return ContainerPath(Rights(home, user, strict), words)


def named(home: Home, words: PathWords) -> Name:
    """A place inside; a slash at its end is kept: it says that it is a directory."""
    told = str(pure(words, home))
    slash = "/" if isinstance(words, str) and words.endswith("/") and not told.endswith("/") else ""
    return Name(os.fsencode(os.path.normpath(os.path.join(home.cwd, told))), told + slash)


def copy_in(
    home: Home, src: str | os.PathLike[str], dst: PathWords, user: str | None = None, hold: Hold | None = None
) -> None:
    """``src``, a file or directory of the caller's, to ``dst`` inside."""
    source, target = os.fspath(src), named(home, dst)
    Rights(home, user, False).work(lambda held: copying.copy_in(held, source, target), hold)


def copy_out(home: Home, src: PathWords, dst: str | os.PathLike[str], hold: Hold | None = None) -> None:
    """``src`` inside to ``dst``, the caller's."""
    source, target = named(home, src), os.fspath(dst)
    Rights(home, None, False).work(
        lambda held: copying.copy_out(held, source, target, copying.is_contents(src)), hold
    )


def put_archive(home: Home, dst: PathWords, tar: Any, hold: Hold | None = None) -> None:
    """Unpacks ``tar``, bytes or a binary file, into the directory ``dst`` inside."""
    target = named(home, dst)
    Rights(home, None, False).work(lambda held: archives.put(held, target, tar), hold)


def get_archive(home: Home, src: PathWords, hold: Hold | None = None) -> IO[bytes]:
    """``src`` inside as a tar archive."""
    source = named(home, src)
    return Rights(home, None, False).work(lambda held: archives.get(held, source), hold)
