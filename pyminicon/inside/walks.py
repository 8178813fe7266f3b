"""Operations that go through directories: iterdir, glob, rglob, walk. Their items are relative names."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat as modes
import sys

from pyminicon.inside import ops, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from pyminicon.inside.home import Op
    from pyminicon.inside.ops import Name

    Walk = Generator[Any, Any, None]

#: "**" at a pattern's end means directories alone before Python 3.13, as pathlib has it.
_FILES_AS_WELL = sys.version_info >= (3, 13)
_PASSED_OVER = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_DEEPEST = 2048  # no name is longer than that


def iterdir(path: Name) -> Walk:
    """Lists of names, as they come: never more of them in memory than one message holds."""
    batches = ops.batches(path)
    yield from _mapped(batches, lambda batch: [name for name, _ in batch])


def _mapped(op: Walk, change: Callable[[list[Any]], Any]) -> Walk:
    """``op``, with each of its items changed."""
    answer = None
    try:
        while True:
            asked = op.send(answer)
            answer = yield change(asked) if isinstance(asked, list) else asked
    except StopIteration:
        return


def walk(
    path: Name, top_down: bool, on_error: Callable[[OSError], object] | None, follow: bool
) -> Generator[Any, Any, None]:
    """Yields requests, and [(relative name, directories, files)] as pathlib.Path.walk does."""
    waiting: list[tuple[str, tuple[str, list[str], list[str]] | None]] = [("", None)]
    while waiting:
        where, done = waiting.pop()
        if done is not None:
            yield [done]
            continue
        try:
            found = yield from _divided(path.child(where) if where else path, follow)
        except OSError as error:
            if error.errno in (errno.ETIMEDOUT, errno.EOVERFLOW):
                raise  # not of the directory: it can't go on
            if on_error is not None:
                on_error(error)
            continue
        directories, files = found
        item = (where, directories, files)
        if top_down:
            yield [item]
        else:
            waiting.append((where, item))
        if len(waiting) + len(directories) > ops.MOST_NAMES:
            raise wire.failure(errno.EOVERFLOW, path.told)
        waiting += [(os.path.join(where, name), None) for name in reversed(directories)]


def _divided(path: Name, follow: bool) -> Op[tuple[list[str], list[str]]]:
    directories: list[str] = []
    files: list[str] = []
    for name, kind in (yield from ops.all_names(path)):
        inside = yield from _is_directory(path, name, kind, follow)
        (directories if inside else files).append(name)
    return directories, files


def _is_directory(path: Name, name: str, kind: int, follow: bool) -> Op[bool]:
    if kind == wire.LINK_TYPE and not follow:
        return False
    if kind in (wire.LINK_TYPE, wire.UNKNOWN):
        try:
            return modes.S_ISDIR((yield from ops.mode_of(path.child(name), follow)))
        except PermissionError:
            return False
    return kind == wire.DIRECTORY


# ---- glob


def parse(pattern: str, recursive: bool) -> tuple[tuple[str, ...], bool]:
    """The parts of a pattern, and whether only directories are meant."""
    pattern = os.fspath(pattern)
    if not pattern and not recursive:
        raise ValueError(f"Unacceptable pattern: {pattern!r}")
    if pattern.startswith("/"):
        raise NotImplementedError("Non-relative patterns are unsupported")
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    if not parts and not recursive:
        raise ValueError(f"Unacceptable pattern: {pattern!r}")
    for part in parts:
        if "**" in part and part != "**" and not _FILES_AS_WELL:
            raise ValueError("Invalid pattern: '**' can only be an entire path component")
    if recursive:
        parts = ("**", *parts)
    return tuple(
        p for i, p in enumerate(parts) if p != "**" or i == 0 or parts[i - 1] != "**"
    ), pattern.endswith("/")


def glob(path: Name, parts: tuple[str, ...], directories: bool) -> Walk:
    """Yields requests, and lists of relative names."""
    if not modes.S_ISDIR((yield from ops.mode_of(path))):
        return
    found = _select(path, "", parts, directories)
    if parts.count("**") < 2:
        yield from found
        return
    seen: set[str] = set()  # two ways may lead to one name

    def new(names: list[str]) -> list[str]:
        fresh = [name for name in dict.fromkeys(names) if name not in seen]
        seen.update(fresh)
        if len(seen) > ops.MOST_NAMES:
            raise wire.failure(errno.EOVERFLOW, path.told)
        return fresh

    yield from _mapped(found, new)


def _select(path: Name, where: str, parts: tuple[str, ...], directories: bool) -> Walk:
    if not parts:
        if not directories or modes.S_ISDIR((yield from ops.mode_of(_at(path, where)))):
            yield [where]
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _everywhere(path, where, rest, directories)
    elif not any(letter in part for letter in "*?["):
        next_one = os.path.join(where, part)
        mode = yield from ops.mode_of(_at(path, next_one))
        if mode and (not rest or modes.S_ISDIR(mode)):
            yield from _select(path, next_one, rest, directories)
    else:
        yield from _matching(path, where, part, rest, directories)


def _matching(path: Name, where: str, part: str, rest: tuple[str, ...], directories: bool) -> Walk:
    matches = re.compile(fnmatch.translate(part)).match
    if not rest and not directories:
        named = ops.batches(_at(path, where))
        yield from _passing(
            _mapped(named, lambda batch: [os.path.join(where, name) for name, _ in batch if matches(name)])
        )
        return
    for name, kind in (yield from _known(path, where)):
        if matches(name) and (yield from _is_directory(_at(path, where), name, kind, True)):
            yield from _select(path, os.path.join(where, name), rest, False)


def _everywhere(path: Name, where: str, rest: tuple[str, ...], directories: bool) -> Walk:
    waiting = [where]
    while waiting:
        here = waiting.pop()
        if rest:
            yield from _select(path, here, rest, directories)
        elif not _FILES_AS_WELL or directories or here == where:
            yield [here]
        inner: list[str] = []
        for name, kind in (yield from _known(path, here)):
            whole = os.path.join(here, name)
            if (yield from _is_directory(_at(path, here), name, kind, False)):
                inner.append(whole)
            if not rest and _FILES_AS_WELL and not directories:
                yield [whole]
        if len(waiting) + len(inner) > ops.MOST_NAMES:
            raise wire.failure(errno.EOVERFLOW, path.told)
        waiting += reversed(inner)


def _known(path: Name, where: str) -> Op[list[tuple[str, int]]]:
    try:
        return (yield from ops.all_names(_at(path, where)))
    except OSError as error:
        if error.errno not in _PASSED_OVER:
            raise
        return []


def _passing(op: Walk) -> Walk:
    try:
        yield from op
    except OSError as error:
        if error.errno not in _PASSED_OVER:
            raise


def _at(path: Name, where: str) -> Name:
    return path.child(where) if where else path
