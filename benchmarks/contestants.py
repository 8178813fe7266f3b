"""The same container in every contestant's words: the floor's steps and the product's options."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from .floor import Floor
from .measure import Case, timed
from .rootfs import PROGRAM

NAMESPACES = ("hygiene", "mount", "pid", "uts", "ipc", "cgroup", "net", "loopback", "hostname")
_SYSTEM = ("proc", "sysfs", "dev", "devpts", "shm", "mqueue", "masks", "etc", "pivot")
READ_ONLY = (*NAMESPACES, "private", "root_bind", *_SYSTEM)
RIGHTS = ("caps", "seccomp")
# What pyminicon.run does when nothing is asked for.
DEFAULTS = (*NAMESPACES, "private", "root_overlay", *_SYSTEM, *RIGHTS)
DEFAULTS_READ_ONLY = (*READ_ONLY, *RIGHTS)


class Ground(NamedTuple):
    """What the contestants share: the root, the filter, descriptors (-1: not to be had here)."""

    root: str
    filter: bytes
    memory_cgroup: int
    unified_cgroup: int
    netns: int


def default_filter() -> bytes:
    """The seccomp program that the product loads by default, so that both load the same bytes."""
    try:
        from pyminicon import seccomp
        from pyminicon.options import capabilities
    except ImportError:
        return b""
    return seccomp.program("default", capabilities.DEFAULT_MASK) or b""


def floor_for(ground: Ground, steps: tuple[str, ...], argv: tuple[str, ...] = ()) -> Floor:
    """The floor on this ground; close it after use when "parked" is among its steps."""
    if not ground.filter:  # the product isn't built: nothing to load
        steps = tuple(step for step in steps if step != "seccomp")
    return Floor(
        ground.root,
        steps,
        argv,
        filter=ground.filter,
        netns=ground.netns,
        cgroup_parent=ground.unified_cgroup if "cgroup_v2" in steps else ground.memory_cgroup,
    )


def floor_case(ground: Ground, name: str, steps: tuple[str, ...], argv: tuple[str, ...] = ()) -> Case:
    """A launch by the floor; its time is taken by its own clock, without ctypes' share."""
    return Case(name, floor_for(ground, steps, argv).launch)


def checked(run: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], None]:
    """A call of ``run`` that insists on exit status 0."""

    def call() -> None:
        result = run(*args, **options)
        if result.returncode != 0:
            raise RuntimeError(f"the payload returned {result.returncode} under {options}")

    return call


def product_case(ground: Ground, name: str, argv: tuple[str, ...] = (), **options: Any) -> Case:
    """A launch by ``pyminicon.run``; its time is what the Python caller waits."""
    import pyminicon

    call = checked(pyminicon.run, [PROGRAM, *argv], image=ground.root, **options)
    return Case(name, timed(call))


def bare_case(ground: Ground, name: str = "bare posix_spawn") -> Case:
    """The payload itself, spawned by the quickest way Python has, without any container."""
    program = ground.root + PROGRAM

    def call() -> None:
        if os.waitpid(os.posix_spawn(program, [program], {}), 0)[1]:
            raise RuntimeError("the bare payload failed")

    return Case(name, timed(call))
