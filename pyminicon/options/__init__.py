"""What may be asked for: one container as a :class:`Spec`, and which options belong to what.

:mod:`pyminicon.options.parse` checks them, and whatever few calls give waits in modules of its own.
"""

from __future__ import annotations

import os

from pyminicon.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyminicon.cancelling import Cancel
    from pyminicon.cgroups.limits import Limits

PIPE, STDOUT, DEVNULL = -1, -2, -3  # subprocess's own numbers, without its import

#: What a Template or a container can't change once it is made, and each run of it can.
EACH_RUN = frozenset(
    "args env cwd stdin stdout stderr input capture_output text universal_newlines encoding errors timeout "
    "check wall_time cpu_time max_output overflow files collect collect_max pass_fds executable cancel".split()
)
#: What is served from a container's launch to its end, which no Template has.
SERVED = frozenset(("publish", "egress", "egress_headers"))
#: Those of them that no plan depends on.
ASIDE = EACH_RUN - {"files", "collect", "cpu_time"} | SERVED
#: What ``run`` takes and ``start`` doesn't: there is nobody there to feed, to wait and to collect.
ONLY_RUN = frozenset("input timeout check capture_output overflow collect collect_max".split())

#: What stands for the args of a container that is started without: none but its init runs in it.
LIVES: list[str | bytes] = []
#: What such a container doesn't take: it has no program whose this could be.
OF_A_PROGRAM = frozenset(
    "stdin stdout stderr text universal_newlines encoding errors tty pass_fds max_output executable".split()
)
#: What each command in a container takes, and what of it only those that are waited for.
EACH_COMMAND = frozenset(
    "env cwd user stdin stdout stderr input capture_output text universal_newlines encoding errors timeout "
    "check wall_time cpu_time max_output overflow pass_fds cancel".split()
)

#: What a plan has a cgroup for, made anew for each run.
LIMITS = frozenset("memory memory_swap cpus cpu_weight cpuset pids io_weight usage cgroup_parent".split())


class Spec:
    """One container as asked for. Fields are the options of the same name, in checked form."""

    args: Sequence[str | bytes] = ()
    image: str = "host"
    host_etc: Sequence[str] = ()  # in /etc, without a slash in front
    read_only = False
    storage: tuple[str, str] = ("tmpfs", "")  # (kind, size)
    stdin: Any = None
    stdout: Any = None
    stderr: Any = None
    input: bytes | str | None = None
    text = False
    encoding: str | None = None
    errors: str | None = None
    timeout: float | None = None
    check = False
    executable: str | None = None
    entrypoint: list[str | bytes] | None = None
    env: Mapping[str, str] | None = None
    cwd: str | bytes | None = None
    make_cwd = False
    user: str | None = None
    group: str | None = None
    extra_groups: Sequence[str] = ()
    umask = 0o022
    stop_signal: int | None = None
    hostname: str | None = None
    add_host: Sequence[tuple[str, str]] = ()  # (name, address)
    dns: Sequence[str] = ()
    sysctls: Sequence[tuple[str, str]] = ()  # (name, value)
    volumes: Sequence[tuple[str, str, str]] = ()  # (source, target, mode)
    tmpfs: Sequence[tuple[str, str, bool]] = ()  # (target, kernel options, noexec)
    files: Sequence[tuple[str, bytes, int]] = ()  # (target, bytes, mode)
    collect: list[str] | None = None
    collect_max = 16 << 20
    network = "none"
    publish: Sequence[tuple[str, int, int]] = ()  # (address, port, port inside)
    egress: Any = None  # options.egress.Rules, or the caller's function
    egress_headers: Mapping[str, Mapping[str, str]] = {}
    serves = False  # there is something of its network that the caller serves
    pid = ipc = uts = cgroupns = "private"
    time = "host"
    userns: str | list[tuple[int, int, int]] = "auto"
    limits: Limits | None = None
    wall_time: float | None = None
    cpu_time: float | None = None
    max_output: int | None = None
    overflow = "kill"
    rlimits: Sequence[tuple[int, int, int]] = ()
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    seccomp: Any = "default"
    systempaths = "default"
    no_new_privileges = True
    init = False
    pass_fds: Sequence[int] = ()
    tty = False
    cancel: Cancel | None = None


def flag(option: str, value: Any) -> bool:
    """True or False; SpecError otherwise."""
    if value is not True and value is not False:
        raise SpecError(option, "takes True or False")
    return bool(value)


def set_flag(spec: Spec, name: str, value: Any) -> None:
    setattr(spec, name, flag(name, value))


def text(option: str, value: Any) -> str:
    """A str without NUL bytes, from a str or bytes or a path; SpecError otherwise."""
    if isinstance(value, (bytes, os.PathLike)):
        value = os.fsdecode(value)
    if not isinstance(value, str):
        raise SpecError(option, f"takes a string, not {type(value).__name__}")
    if "\0" in value:
        raise SpecError(option, "a NUL byte can't be in it")
    if not value.isascii():
        try:
            os.fsencode(value)
        except UnicodeEncodeError:
            raise SpecError(option, f"{value[:40]!a} holds a character that names here can't have") from None
    return value
