"""What can go wrong, as exceptions.

``SpecError`` is raised before anything was started; ``LaunchError`` after everything that was
started has been undone. Both derive from :class:`Error`, so one ``except`` catches what is ours.

``TimeoutExpired`` and ``CalledProcessError`` must be subclasses of subprocess's, and importing
``subprocess`` costs more than a container does: they are made at first use.
"""

from __future__ import annotations


class Error(Exception):
    """The base of every exception this package raises by itself."""

    __module__ = "pyminicon"


class Expired(Exception):
    """Ours alone: the time was over before a plan was made; whoever is at it goes on, and what he makes is
    disposed of."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

    class TimeoutExpired(Error, subprocess.TimeoutExpired):
        """See subprocess.TimeoutExpired."""

    class CalledProcessError(Error, subprocess.CalledProcessError):
        """See subprocess.CalledProcessError; ``limit``: that of its container's that ended it, or None."""

        limit: str | None

        def __init__(
            self, returncode: int, cmd: Any, output: Any = None, stderr: Any = None, limit: str | None = None
        ) -> None: ...


_LONGEST_SPEC = 800


class SpecError(Error, ValueError):
    """An option that can't be what it was given as; nothing has been started.

    ``option`` (str): the option's name. The message reads ``"option: what it takes"``.
    """

    __module__ = "pyminicon"

    def __init__(self, option: str, message: str) -> None:
        if len(message) > _LONGEST_SPEC:  # it shows what was given, which may be a megabyte
            message = f"{message[: _LONGEST_SPEC // 2]}…{message[-_LONGEST_SPEC // 2 :]}"
        super().__init__(f"{option}: {message}")
        self.option = option

    def __reduce__(self) -> tuple[Any, ...]:
        # From its one argument it couldn't be made again, and a worker pool that gets it would break.
        return type(self), (self.option, str(self).removeprefix(f"{self.option}: "))


class Cancelled(Error):
    """What a call had begun was ended by its ``cancel``."""

    __module__ = "pyminicon"


class ContainerEnded(Error):
    """What was asked of a container needs it alive, and it has ended.

    ``id`` (str), ``returncode`` (int), ``limit`` (None, or the limit that ended it): the container's.
    """

    __module__ = "pyminicon"

    def __init__(self, id: str, returncode: int, limit: str | None = None) -> None:
        why = f"by its limit: {limit}" if limit else f"with returncode {returncode}"
        super().__init__(f"container {id} has ended {why}")
        self.id = id
        self.returncode = returncode
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self.returncode, self.limit)


# A remedy is read where the line can be taken in: a long path in front of it is cut in its middle.
_LONGEST, _LEAST = 138, 16


class LaunchError(Error, OSError):
    """A launch that failed; no process, mount, cgroup, descriptor or file of it is left.

    ``errno`` (int): the kernel's answer, see errno(3).
    ``stage`` (str): the step of the launch, a row of docs/stages.md.
    ``subject`` (str): the path, name or value that the step was about, possibly empty.
    ``hint`` (str | None): the likely cause and the remedy, where they can be known.

    By its errno it is a FileNotFoundError, PermissionError or NotADirectoryError as well, with the subject for
    ``filename``, as subprocess raises them.
    """

    __module__ = "pyminicon"

    def __new__(cls, errno: int, stage: str, subject: str = "", hint: str | None = None) -> LaunchError:
        import os

        if cls is LaunchError:
            cls = _KINDS.get(errno, cls)  # noqa: PLW0642
        if stage in ("exec", "cwd") or (subject and cls is not LaunchError):
            return OSError.__new__(cls, errno, os.strerror(errno), subject)
        return OSError.__new__(cls, errno, os.strerror(errno))

    def __init__(self, errno: int, stage: str, subject: str = "", hint: str | None = None) -> None:
        self.stage = stage
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        message = self._with(self.subject)
        too_long = len(message) - _LONGEST
        if self.hint and too_long > 0 and len(self.subject) > _LEAST:
            room = max(_LEAST, len(self.subject) - too_long)
            end = room * 5 // 8  # which tells most
            message = self._with(f"{self.subject[: room - end - 1]}…{self.subject[-end:]}")
        return message

    def _with(self, subject: str) -> str:
        message = ": ".join(part for part in (self.stage, subject, self.strerror or "") if part)
        return f"{message} ({self.hint})" if self.hint else message

    def __repr__(self) -> str:
        return f"LaunchError(errno={self.errno}, stage={self.stage!r}, subject={self.subject!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would pickle (errno, strerror); a worker pool has to carry stage and subject too.
        kind = LaunchError if type(self) in _KINDS.values() else type(self)
        return kind, (self.errno, self.stage, self.subject, self.hint)


class _NotFound(LaunchError, FileNotFoundError):
    pass


class _NotAllowed(LaunchError, PermissionError):
    pass


class _NotADirectory(LaunchError, NotADirectoryError):
    pass


_KINDS: dict[int, type[LaunchError]] = {2: _NotFound, 1: _NotAllowed, 13: _NotAllowed, 20: _NotADirectory}
for _kind in _KINDS.values():  # to whoever reads a traceback they are what they are caught as
    _kind.__name__ = _kind.__qualname__ = "LaunchError"
    _kind.__module__ = "pyminicon"
    _kind.__module__ = "pyminicon"


def insist(error: OSError, path: str) -> None:
    """Raises LaunchError where ``path`` couldn't be read for want of a descriptor or of memory: nothing that was
    asked for may be missing for that."""
    from errno import EMFILE, ENFILE, ENOMEM

    if error.errno in (EMFILE, ENFILE, ENOMEM):
        raise LaunchError(error.errno, "prepare", path) from None


def not_loaded(error: ImportError) -> LaunchError:
    """What a launch says that can't read a part of this package, or of Python, any more."""
    from errno import ENOENT

    return LaunchError(ENOENT, "prepare", error.name or str(error), LOAD_FIRST)


#: Also said by the package itself, which can't come here when nothing can be read.
LOAD_FIRST = "who changes user, root or sys.path calls pyminicon.load() before"


def check_status(returncode: int | None) -> int:
    """``returncode``, or an Error when somebody else's wait has taken it."""
    if returncode is None:
        raise Error(
            "the container has ended, but its status was taken: this process waits for all its children "
            "or ignores SIGCHLD, and before Linux 6.15 nothing else knows it"
        )
    return returncode


def _called(
    self: Any, returncode: int, cmd: Any, output: Any = None, stderr: Any = None, limit: str | None = None
) -> None:
    import subprocess

    subprocess.CalledProcessError.__init__(self, returncode, cmd, output, stderr)
    self.limit = limit


def _named_limit(self: Any) -> str:
    import subprocess

    text = subprocess.CalledProcessError.__str__(self)
    return f"{text.rstrip('.')}: ended by its limit: {self.limit}" if self.limit else text


def __getattr__(name: str) -> type[Error]:
    if name in ("TimeoutExpired", "CalledProcessError"):
        import subprocess

        base: Any = getattr(subprocess, name)
        members: dict[str, Any] = {"__module__": "pyminicon", "__doc__": base.__doc__}
        if name == "CalledProcessError":
            members |= {"limit": None, "__init__": _called, "__str__": _named_limit}
        made: type[Error] = type(name, (Error, base), members)
        globals()[name] = made
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
