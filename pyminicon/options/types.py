"""The options as type checkers and editors know them, and the signature that inspect and help() show.

No launch loads this: it needs :mod:`typing`. What an option means and its default stand in the docstring of
:func:`pyminicon.run`, a line for each; a test holds that, this and the checkers to each other.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Literal, TypeAlias, TypedDict

from pyminicon.cancelling import Cancel

StrPath: TypeAlias = str | os.PathLike[str]
AnyPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
#: A program and its arguments.
Args: TypeAlias = Sequence[AnyPath]
#: Bytes, or words such as "64M".
Size: TypeAlias = int | str
#: None inherits; else a descriptor, a file, PIPE or DEVNULL (and STDOUT for stderr).
Stream: TypeAlias = int | IO[Any] | None
Buffer: TypeAlias = bytes | bytearray | memoryview
Namespace: TypeAlias = Literal["private", "host"]
#: The program's limit for one resource: (soft, hard), or both in one.
Rlimit: TypeAlias = "int | Literal['unlimited'] | tuple[int, int]"


class LimitOptions(TypedDict, total=False):
    """What a cgroup limits; ``Container.update`` changes them."""

    memory: Size | None
    memory_swap: Size | None
    cpus: float | None
    cpu_weight: int | None
    cpuset: str | None
    pids: int | None
    io_weight: int | None


class ContainerOptions(LimitOptions, total=False):
    """What describes a container: Template takes these."""

    image: StrPath
    host_etc: Iterable[AnyPath] | None
    entrypoint: str | bytes | Sequence[str | bytes] | None
    read_only: bool
    storage: str
    make_cwd: bool
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int]
    umask: int
    process_group: int | None
    stop_signal: str | int | None
    hostname: str | None
    add_host: Iterable[str]
    dns: Iterable[str]
    sysctls: Mapping[str, str | int] | None
    volumes: Iterable[AnyPath | tuple[AnyPath, ...]] | None
    tmpfs: Iterable[AnyPath] | None
    network: Literal["none", "off", "host", "pasta"]
    pid: Namespace
    ipc: Namespace
    uts: Namespace
    cgroupns: Namespace
    time: Namespace
    userns: str
    usage: bool
    cgroup_parent: StrPath | None
    rlimits: Mapping[str, Rlimit] | None
    cap_add: Iterable[str]
    cap_drop: Iterable[str]
    seccomp: str | os.PathLike[str] | Mapping[str, Any]
    systempaths: Literal["default", "unconfined"]
    no_new_privileges: bool
    init: bool


class StartOfTemplate(TypedDict, total=False):
    """What each start takes, of a Template too; the words for text are in the overloads."""

    executable: AnyPath | None
    env: Mapping[str, str] | None
    cwd: AnyPath | None
    stdin: Stream
    stdout: Stream
    stderr: Stream
    wall_time: float | None
    cpu_time: float | None
    max_output: Size | None
    files: Mapping[str, bytes | os.PathLike[str] | str] | None
    pass_fds: Iterable[int]
    cancel: Cancel | None


class RunOfTemplate(StartOfTemplate, total=False):
    """What each run takes, of a Template too."""

    capture_output: bool
    timeout: float | None
    check: bool
    overflow: Literal["kill", "trim"]
    collect: Iterable[AnyPath] | None
    collect_max: Size | None
    trace: bool


class DetachOptions(TypedDict, total=False):
    """What start takes for a container that outlives the caller."""

    detach: bool
    name: str | None
    labels: Mapping[str, str] | None


class ServedOptions(TypedDict, total=False):
    """What is served of a container's network from its launch to its end, and so isn't a Template's."""

    publish: Iterable[str] | None
    egress: Iterable[str] | Callable[[str, int], bool | Awaitable[bool]] | None
    egress_headers: Mapping[str, Mapping[str, str]] | None


class StartOptions(ContainerOptions, StartOfTemplate, ServedOptions, DetachOptions, total=False):
    """What :func:`pyminicon.start` takes."""

    tty: bool
    trace: bool


class StartLivingOfTemplate(TypedDict, total=False):
    """What start takes without args, of a Template too: nothing of what is a program's."""

    env: Mapping[str, str] | None
    cwd: AnyPath | None
    wall_time: float | None
    cpu_time: float | None
    files: Mapping[str, bytes | os.PathLike[str] | str] | None


class LivingOptions(ContainerOptions, StartLivingOfTemplate, ServedOptions, DetachOptions, total=False):
    """What :func:`pyminicon.start` takes without args."""

    trace: bool


class RunOptions(ContainerOptions, RunOfTemplate, ServedOptions, total=False):
    """What :func:`pyminicon.run` takes."""


class StartOfCommand(TypedDict, total=False):
    """What a command in a container takes; the words for text are in the overloads."""

    env: Mapping[str, str] | None
    cwd: AnyPath | None
    user: str | int | None
    stdin: Stream
    stdout: Stream
    stderr: Stream
    wall_time: float | None
    cpu_time: float | None
    max_output: Size | None
    pass_fds: Iterable[int]
    cancel: Cancel | None
    trace: bool


class RunOfCommand(StartOfCommand, total=False):
    """What ``Container.run`` takes."""

    capture_output: bool
    timeout: float | None
    check: bool
    overflow: Literal["kill", "trim"]


class ProcessOptions(StartOfCommand, total=False):
    """What ``Container.start`` takes."""

    tty: bool


#: What tells text from bytes; each call has overloads for them.
TEXT = ("text", "encoding", "errors", "universal_newlines")


def options_of(call: str) -> dict[str, Any]:
    """The options of a call (run, Template.run, Container.start, …), each with its type."""
    kinds: dict[str, Any] = {
        "run": RunOptions,
        "start": StartOptions,
        "Template": ContainerOptions,
        "Template.run": RunOfTemplate,
        "Template.start": StartOfTemplate,
        "Container.run": RunOfCommand,
        "Container.start": ProcessOptions,
    }
    found = dict(kinds[call].__annotations__)
    if call != "Template":
        found |= dict.fromkeys(TEXT[1:3], "str | None") | dict.fromkeys(TEXT[::3], "bool | None")
    if call.endswith("run"):
        found["input"] = "str | Buffer | None"
    return {name: getattr(kind, "__forward_arg__", kind) for name, kind in found.items()}


def rows(text: str) -> dict[str, tuple[Any, str]]:
    """The options of run's docstring: default and what it means."""
    import ast

    found = {}
    for line in text.splitlines():
        name, equals, rest = line.strip().partition("=")
        value, gap, meaning = rest.partition("  ")
        if equals and gap and name.isidentifier():
            found[name] = (ast.literal_eval(value), meaning.strip())
    return found


def described(function: Any, call: str, text: str) -> Any:
    """``function`` with the signature that its ``**options`` stand for; ``text``: run's docstring."""
    import inspect
    from types import FunctionType

    told = rows(text)
    given = inspect.Signature.from_callable(function, follow_wrapped=False)
    fixed = [p for p in given.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=told.get(name, (...,))[0], annotation=kind
        )
        for name, kind in options_of(call).items()
    ]
    options.sort(key=lambda option: [*told].index(option.name) if option.name in told else len(told))
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    made.__doc__ = function.__doc__
    made.__signature__ = given.replace(parameters=[*fixed, *options])  # type: ignore[attr-defined]
    return made
