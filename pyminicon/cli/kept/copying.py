"""``cp``: files and directories, out of a container (one that has ended as well) and into it; ``-`` is a tar."""

from __future__ import annotations

import os
import shutil
import sys

from pyminicon.detached import place, state
from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Protocol

    class Source(Protocol):
        """What can be copied out of."""

        def copy_out(self, src: str, dst: str) -> None: ...
        def get_archive(self, src: str) -> IO[bytes]: ...
        def names(self, src: str) -> list[str]: ...


def cp(given: dict[str, Any], rest: list[str]) -> int:
    """See the verb's help."""
    if len(rest) != 2:
        raise SpecError("cp", f"takes a source and a target, not {len(rest)} words")
    (source, inner_source), (target, inner_target) = map(_divided, rest)
    if (inner_source is None) == (inner_target is None):
        which = "copies between a container and this machine: one side is CONTAINER:PATH"
        raise SpecError("cp", which)
    if inner_source is not None:
        _out(source, inner_source, target)
    else:
        assert inner_target is not None
        _in(source, target, inner_target)
    return 0


def _divided(word: str) -> tuple[str, str | None]:
    """CONTAINER:PATH in two; a path of this machine has a slash in front of its colon, or no colon."""
    name, colon, path = word.partition(":")
    if not colon or not name or "/" in name or name.startswith("."):
        return word, None
    return name, path or "/"


def _out(name: str, source: str, target: str) -> None:
    of = _source(name)
    absolute = source if source.startswith("/") else f"/{source}"
    if target == "-":
        if sys.stdout.isatty():
            raise SpecError("cp", "a tar doesn't belong on a terminal: name a file, or a pipe")
        with of.get_archive(_plain(absolute)) as archive:
            shutil.copyfileobj(archive, sys.stdout.buffer, 1 << 20)
        return
    if not _is_contents(source):
        of.copy_out(_plain(absolute), target)
        return
    if not os.path.isdir(target):
        os.mkdir(target)
    for one in of.names(_plain(absolute)):
        of.copy_out(os.path.join(_plain(absolute), one), target)


def _is_contents(path: str) -> bool:
    """docker's word for what is in a directory, without itself."""
    return path == "." or path.endswith("/.")


def _plain(path: str) -> str:
    return os.path.normpath(path) if _is_contents(path) else path


def _source(name: str) -> Source:
    from pyminicon.detached import asking

    directory = place.find(name)
    try:
        return _Running(directory)
    except asking.NotRunning:
        fields = state.read(directory)
        if fields is None:
            raise
        return _Ended(fields)


class _Running:
    def __init__(self, directory: str) -> None:
        from pyminicon.calls import attached

        self._box = attached(directory)
        self.copy_out = self._box.copy_out
        self.get_archive = self._box.get_archive

    def names(self, src: str) -> list[str]:
        return [one.name for one in self._box.path(src).iterdir()]


class _Ended:
    def __init__(self, fields: dict[str, Any]) -> None:
        from pyminicon.detached import layers

        self._module = layers
        self._layers = layers.Layers(fields)

    def copy_out(self, src: str, dst: str) -> None:
        self._module.copy_out(self._layers, src, dst)

    def get_archive(self, src: str) -> IO[bytes]:
        return self._module.get_archive(self._layers, src)

    def names(self, src: str) -> list[str]:
        return self._module.listed(self._layers, src)


def _in(source: str, name: str, target: str) -> None:
    from pyminicon.calls import attached
    from pyminicon.detached import asking

    absolute = target if target.startswith("/") else f"/{target}"
    directory = place.find(name)
    try:
        box = attached(directory)
    except asking.NotRunning:
        _into_ended(source, directory, absolute)
        return
    if source == "-":
        box.put_archive(absolute, sys.stdin.buffer)
        return
    if not _is_contents(source):
        box.copy_in(source, absolute)
        return
    if not box.path(absolute).is_dir():
        box.path(absolute).mkdir()
    for one in sorted(os.listdir(source)):
        box.copy_in(os.path.join(source, one), absolute)


def _into_ended(source: str, directory: str, target: str) -> None:
    from pyminicon.detached.writing import Ended

    fields = state.read(directory)
    if fields is None:
        raise place.NoSuchContainer(f"no such container: {os.path.basename(directory)}")
    with Ended(directory, fields) as into:
        if source == "-":
            into.put_archive(target, sys.stdin.buffer)
        elif not _is_contents(source):
            into.copy_in(source, target)
        else:
            if not into.is_directory(target):
                into.mkdir(target)
            for one in sorted(os.listdir(source)):
                into.copy_in(os.path.join(source, one), target)
