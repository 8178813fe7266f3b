"""What is asked of a container that takes commands, checked: before anything is sent to it."""

from __future__ import annotations

import os

from pyminicon.errors import LaunchError, SpecError
from pyminicon.options import EACH_COMMAND, LIVES, OF_A_PROGRAM, Spec
from pyminicon.options import parse as specs
from pyminicon.plan import build as plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import Any, Protocol

    from pyminicon import _core, cgroups
    from pyminicon.options.users import Identity
    from pyminicon.plan import ExecSpec, Plan

    class Box(Protocol):
        """A container, as far as commands depend on it."""

        id: str
        pid: int
        _handle: _core.Handle
        _spec: Spec
        _plan: Plan


_MOST_READ = 1 << 20  # bytes of passwd or group
_PATIENCE = 10.0  # seconds for a file system inside to tell of them


class Command:
    """One command: its options, what is executed, as whom (None: as the container is), and what counts its processor
    time where the container's cgroup doesn't."""

    __slots__ = ("clock", "exec_spec", "spec", "who")

    def __init__(
        self,
        spec: Spec,
        exec_spec: ExecSpec,
        who: tuple[int, int, list[int]] | None,
        clock: cgroups.Plan | None,
    ) -> None:
        self.spec: Spec = spec
        self.exec_spec: ExecSpec = exec_spec
        self.who: tuple[int, int, list[int]] | None = who
        self.clock: cgroups.Plan | None = clock

    def asked(self, request: _core.Request) -> None:
        """What the core is asked besides for a command."""
        request.who, request.clock = self.who, self.clock


#: Options that mean the same whenever they are the same: neither files, nor values that can change, nor what has to be
#: looked up.
_LASTING = frozenset(
    "check text encoding errors universal_newlines capture_output timeout wall_time max_output overflow cwd".split()
)
_PLAIN = frozenset((bool, int, float, str, type(None)))
_MOST_SETTLED = 16


class Settled:
    """What is kept of a command that is waited for, for the next one with the same options: all but its words."""

    __slots__ = ("cwd", "environment", "path", "request", "spec")

    def __init__(self, spec: Spec, exec_spec: ExecSpec, path: str) -> None:
        self.spec: Spec = spec
        self.environment: list[str] = exec_spec[2]
        self.cwd: str | bytes = exec_spec[3]
        self.path: str = path
        self.request: _core.Request | None = None

    def exec_spec(self, args: Any) -> ExecSpec:
        """What is executed for ``args``. Raises SpecError."""
        words = specs.words(args)
        return plans.candidates(_program(words), self.path), words, self.environment, self.cwd


def key(options: dict[str, Any]) -> Hashable | None:
    """What such options are known by; None where they have to be looked at each time."""
    if not options.keys() <= _LASTING:
        return None
    kinds = tuple(map(type, options.values()))
    return (*options.items(), kinds) if _PLAIN.issuperset(kinds) else None


def settle(known: dict[Hashable, Settled], name: Hashable, box: Box, made: Command) -> Settled:
    """Keeps what ``made`` shows of the options ``name``."""
    for first in list(known)[: len(known) - _MOST_SETTLED + 1] if len(known) >= _MOST_SETTLED else ():
        known.pop(first, None)  # another thread may have been quicker
    found = Settled(made.spec, made.exec_spec, _environment(box).get("PATH", ""))
    known[name] = found
    return found


def container(options: dict[str, Any]) -> tuple[list[str | bytes], dict[str, Any]]:
    """Args and options of a container that is started without args. Raises SpecError."""
    for name in options:
        if name in OF_A_PROGRAM:
            raise SpecError(name, "is a program's: give it to the commands, as in c.run([...])")
    if options.get("init", True) is False:
        raise SpecError("init", "can't be False without args: nothing but an init would be there")
    return LIVES, {**options, "init": True}


def without_init() -> SpecError:
    """For a container that can't take commands."""
    return SpecError("init", "commands take a container with one: start it without args, or with init=True")


def command(box: Box, args: Any, options: dict[str, Any], refused: frozenset[str] = frozenset()) -> Command:
    """What is asked of ``box``. Raises SpecError."""
    for name in options:
        if name not in EACH_COMMAND and name != "tty":
            known = name in specs.EACH_RUN or name in specs.LIMITS or hasattr(Spec, name)
            raise SpecError(name, "is the container's, not a command's" if known else "no such option")
    spec = specs.parse(args, options, refused)
    if spec.tty and not _is_terminal(spec.stdin):
        raise SpecError("tty", "takes a terminal as stdin; without stdin, stdout and stderr it makes one")
    environment = _environment(box)
    who = None
    if spec.user is not None:
        found = identity(box._handle, spec.user, spec.timeout)
        who = found.uid, found.gid, [found.gid, *found.groups]
        if "HOME" not in (box._spec.env or {}):
            environment["HOME"] = found.home
    exec_spec = _exec_spec(box, spec, {**environment, **(spec.env or {})})
    clock = None
    if spec.cpu_time is not None and not box._handle.counts_cpu_time:
        from pyminicon import cgroups

        clock = cgroups.plan_clock()
    return Command(spec, exec_spec, who, clock)


def _environment(box: Box) -> dict[str, str]:
    """What every command of this container has, but for whose home it is."""
    environment = {**box._plan.environment, **(box._spec.env or {})}
    if environment.get("HOSTNAME") == box._plan.id:
        environment["HOSTNAME"] = box.id
    return environment


def _is_terminal(stdin: Any) -> bool:
    try:
        return os.isatty(0 if stdin is None else stdin if isinstance(stdin, int) else stdin.fileno())
    except (OSError, ValueError):
        return False


def user_inside(box: Box, user: str | None) -> tuple[int, int, list[int]] | None:
    """Who that is, for what is done in ``box``; None for whom it is run as. Raises SpecError."""
    if user is None:
        return None
    found = identity(box._handle, user, None)
    return found.uid, found.gid, [found.gid, *found.groups]


def identity(handle: _core.Handle, user: str, timeout: float | None) -> Identity:
    """The user, by the container's own passwd as it is now."""
    from pyminicon.options import users

    patience = min(_PATIENCE, timeout or _PATIENCE)

    def read(path: str) -> bytes | None:
        try:
            return handle.read_inside(path, _MOST_READ, patience)
        except OSError as error:
            raise SpecError("user", f"the container's /{path} can't be read: {error.strerror}") from None

    found = users.resolve(user, read)
    _insist_on_map(handle.pid, user, found)
    return found


def _insist_on_map(pid: int, user: str, found: Identity) -> None:
    """Raises SpecError where the container's user namespace has no such id: the kernel would say EINVAL."""
    for kind, number in (("uid", found.uid), ("gid", found.gid)):
        try:
            with open(f"/proc/{pid}/{kind}_map", encoding="ascii") as file:
                rows = [[int(word) for word in line.split()] for line in file]
        except OSError:  # it has just ended, or /proc is hidden: the kernel knows
            return
        if any(first <= number < first + count for first, _, count in rows) or not rows:
            continue
        mapped = ", ".join(str(a) if n == 1 else f"{a} to {a + n - 1}" for a, _, n in rows)
        ranges = "a userns= that maps it" if os.geteuid() == 0 else "ranges in /etc/subuid and /etc/subgid"
        raise SpecError(
            "user",
            f"no {kind} {number} in this container, only {mapped}: start it with user={user!r:.40}, or {ranges}",
        )


def _program(words: list[str | bytes]) -> str | bytes:
    if not words:
        raise SpecError("args", "is empty: there is no program to run")
    if not words[0]:
        raise LaunchError(2, "exec", "", "the program's name is empty")
    return words[0]


def _exec_spec(box: Box, spec: Spec, environment: Mapping[str, str]) -> ExecSpec:
    words = list(spec.args)
    return (
        plans.candidates(_program(words), environment.get("PATH", "")),
        words,
        [f"{key}={value}" for key, value in environment.items()],
        spec.cwd or box._spec.cwd or box._plan.exec_spec[3],
    )
