"""What a path inside is without looking at any file: the words of pathlib.PurePosixPath.

It is none, and no ``os.PathLike``: ``open(c.path("/etc/passwd"))`` must not open the host's file of that name.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from pyminicon.inside.home import Home, Rights
from pyminicon.inside.ops import Name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypeAlias, TypeVar

    P = TypeVar("P", bound="PathInside")
    #: What stands for a path in an argument.
    PathWords: TypeAlias = "str | PurePosixPath | PathInside"
    #: What can be written.
    Bytes: TypeAlias = "bytes | bytearray | memoryview"


class PathInside:
    """The lexical part that :class:`ContainerPath` and its asynchronous counterpart share."""

    __slots__ = ("__weakref__", "_pure", "_rights")

    def __init__(self, rights: Rights, path: PathWords) -> None:
        self._rights: Rights = rights
        self._pure = pure(path, rights.home)

    def _with(self: P, path: PurePosixPath) -> P:
        made = type(self).__new__(type(self))
        made._rights = self._rights
        made._pure = path
        return made

    def _named(self) -> Name:
        whole = os.path.join(self._rights.home.cwd, str(self._pure))
        return Name(os.fsencode(whole), str(self._pure))

    def _other(self: P, path: PathWords) -> P:
        return self._with(pure(path, self._rights.home))

    def _as_written(self, path: PathWords) -> str:
        return path if isinstance(path, str) else str(pure(path, self._rights.home))

    # ---- as PurePosixPath

    @property
    def name(self) -> str:
        """The last part, or an empty string."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The last suffix with its dot, or an empty string."""
        return self._pure.suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes."""
        return self._pure.suffixes

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts between the slashes, the root first."""
        return self._pure.parts

    @property
    def parent(self: P) -> P:
        """The path without its last part."""
        return self._with(self._pure.parent)

    @property
    def parents(self: P) -> tuple[P, ...]:
        """Its parent, that one's parent, and so on."""
        return tuple(self._with(path) for path in self._pure.parents)

    def is_absolute(self) -> bool:
        """Whether it begins at the container's root and not at its working directory."""
        return self._pure.is_absolute()

    def as_posix(self) -> str:
        """The path as a string."""
        return str(self._pure)

    def with_name(self: P, name: str) -> P:
        """Another last part."""
        return self._with(self._pure.with_name(name))

    def with_stem(self: P, stem: str) -> P:
        """Another stem."""
        return self._with(self._pure.with_stem(stem))

    def with_suffix(self: P, suffix: str) -> P:
        """Another suffix, or none."""
        return self._with(self._pure.with_suffix(suffix))

    def relative_to(self: P, other: PathWords) -> P:
        """The way from ``other`` to this; ValueError where it isn't beneath."""
        return self._with(self._pure.relative_to(pure(other, self._rights.home)))

    def is_relative_to(self, other: PathWords) -> bool:
        """Whether it is beneath ``other``."""
        return self._pure.is_relative_to(pure(other, self._rights.home))

    def match(self, pattern: str) -> bool:
        """As PurePosixPath.match."""
        return self._pure.match(pattern)

    def joinpath(self: P, *others: PathWords) -> P:
        """This path and then ``others``, as ``/`` joins them."""
        return self._with(self._pure.joinpath(*(pure(other, self._rights.home) for other in others)))

    def __truediv__(self: P, other: PathWords) -> P:
        if not isinstance(other, (str, PurePosixPath, PathInside)):
            return NotImplemented
        return self.joinpath(other)

    def __rtruediv__(self: P, other: str | PurePosixPath) -> P:
        if not isinstance(other, (str, PurePosixPath)):
            return NotImplemented
        return self._with(other / self._pure)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PathInside):
            return NotImplemented
        return self._rights.home is other._rights.home and self._pure == other._pure

    def __lt__(self, other: PathInside) -> bool:
        if not isinstance(other, PathInside) or self._rights.home is not other._rights.home:
            return NotImplemented
        return self._pure < other._pure

    def __hash__(self) -> int:
        return hash((id(self._rights.home), self._pure))

    def __str__(self) -> str:
        return str(self._pure)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._pure)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} belongs to its container and can't be pickled")


def pure(path: object, home: Home) -> PurePosixPath:
    """The lexical path; TypeError for what is none, ValueError for another container's."""
    if isinstance(path, PathInside):
        if path._rights.home is not home:
            raise ValueError(f"{str(path)!r} is a path of another container")
        return path._pure
    if not isinstance(path, (str, PurePosixPath)):
        raise TypeError(f"a path inside is a str or PurePosixPath, not {type(path).__name__}")
    return PurePosixPath(path)
