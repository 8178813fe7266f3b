"""A parent of a given size, in a process of its own: ``python -m benchmarks.worker``.

``flat`` keeps several of these alive and asks them in turns, so that a small parent and one of 8 GB
are measured side by side. Protocol: a line of JSON with the set-up, then one line per request (a
case's name); answers are lines of JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from . import rootfs
from .contestants import DEFAULTS, Ground, checked, default_filter, floor_case, product_case
from .ground import own_memory_cgroup
from .measure import Case, timed
from .rooms import private_mounts

_MS_BIND = 0x1000
_PR_SET_DUMPABLE = 4


def hold_memory(megabytes: int) -> mmap.mmap:
    """Touched anonymous memory: every page is there and is this process's own."""
    block = mmap.mmap(-1, max(megabytes, 1) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    ctypes.memset(start, 1, len(block))
    return block


def hold_descriptors(count: int) -> list[int]:
    """``count`` open descriptors, close-on-exec as Python makes them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    most = max(hard, wanted) if os.getuid() == 0 else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]


def make_mounts(total: int) -> None:
    """Enter a private mount namespace and fill it until it holds ``total`` mounts."""
    libc = ctypes.CDLL(None, use_errno=True)
    private_mounts(libc)
    # In a directory that is seen by nobody else: the namespace and its mounts end with the process.
    place = tempfile.mkdtemp(prefix="pyminicon-bench-").encode()
    libc.mount(b"bench", place, b"tmpfs", 0, None)
    with open("/proc/self/mountinfo", "rb") as table:
        have = len(table.readlines())
    for i in range(max(total - have, 0)):
        target = place + b"/%d" % i
        os.mkdir(target)
        if libc.mount(target, target, None, _MS_BIND, None):
            raise OSError(ctypes.get_errno(), "bind", target)
    sys.stdout.write(json.dumps({"place": place.decode()}) + "\n")


def become(uid: int) -> None:
    """Go on as an ordinary user, as if started by one."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    # A change of uid takes /proc/self away from its process until the next exec.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _fork_and_exec(program: str) -> Callable[[], None]:
    def call() -> None:
        pid = os.fork()
        if pid == 0:
            os.execv(program, [program])
        os.waitpid(pid, 0)

    return call


def _cases(setup: dict[str, Any], stack: contextlib.ExitStack) -> dict[str, Case]:
    memory = stack.enter_context(own_memory_cgroup()) if os.getuid() == 0 else -1
    ground = Ground(str(rootfs.minimal()), default_filter(), memory, -1, -1)
    cases = [Case("fork+exec", timed(_fork_and_exec(ground.root + rootfs.PROGRAM)))]
    if os.getuid() == 0:
        cases.append(floor_case(ground, "floor", DEFAULTS))
    try:
        import pyminicon

        cases.append(product_case(ground, "run"))
        template = stack.enter_context(pyminicon.Template(image=ground.root))
        cases.append(Case("Template.run", timed(checked(template.run, [rootfs.PROGRAM]))))
        if setup.get("commands"):
            box = stack.enter_context(pyminicon.start(image=ground.root))
            cases.append(Case("c.run", timed(checked(box.run, [rootfs.PROGRAM]))))
    except (ImportError, AttributeError) as error:
        print(f"worker: {error}", file=sys.stderr)
    wanted = setup.get("cases")
    return {case.name: case for case in cases if not wanted or case.name in wanted}


def _serve(cases: dict[str, Case], ready: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({**ready, "cases": list(cases)}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        name = line.strip()
        if not name:
            break
        try:
            answer: dict[str, Any] = {"ns": cases[name].run()}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Set up as told by the first line, then answer until the input ends."""
    setup = json.loads(sys.stdin.readline())
    if "mounts" in setup:
        make_mounts(setup["mounts"])
    if setup.get("uid"):
        become(setup["uid"])
    held = (hold_memory(setup.get("megabytes", 1)), hold_descriptors(setup.get("descriptors", 0)))
    with open("/proc/self/mountinfo", "rb") as table:
        ready = {"mounts": len(table.readlines()), "descriptors": len(os.listdir("/proc/self/fd"))}
    with contextlib.ExitStack() as stack:
        _serve(_cases(setup, stack), ready)
    del held


if __name__ == "__main__":
    main()
