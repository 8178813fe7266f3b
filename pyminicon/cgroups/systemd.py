"""A scope of this process's own, made by systemd's own program, where the caller's cgroup can't give limits.

Its controllers are delegated, so systemd never writes in it; it ends with the caller's unit, and when nothing runs in
it any more. A process of ours that ends with the caller holds it (pyminicon-hold, csrc/helper/start.cc).
"""

from __future__ import annotations

import errno
import os

from pyminicon import _core
from pyminicon.cgroups import arrange
from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups.files import refuse
from pyminicon.cgroups.tree import Place, read_or

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cgroups.tree import Tree, Trees

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 30  # seconds; systemd takes 0.03 of them


def lend(tree: Tree, here: str) -> Place:
    """The place in a scope that is made now. Raises LaunchError."""
    root = os.geteuid() == 0
    manager, unit, slices = home(here[len(tree.mount) :])
    name = f"pyminicon-{cgroup_tree.process()}-{os.urandom(4).hex()}.scope"
    scope = f"{tree.mount}{manager}{slices}/{name}"
    said = _run([*_command(name, unit, slices, root), "--", "/proc/self/fd/3", "hold", "4", scope])
    if not read_or(f"{scope}/cgroup.procs", "").strip():
        _explain(said, root)
    leaf = arrange.clear(scope)
    arrange.give_controllers(scope, cgroup_tree.controllers(scope))
    how = f"a scope of the {'system' if root else 'user'} manager"
    found = Place(scope, how, top=scope, leaf=leaf)
    if copied := arrange.own_limits(tree, here, scope):
        bound = f"{scope}/pyminicon-bound"
        os.mkdir(bound)
        arrange.impose(bound, copied)
        arrange.give_controllers(bound, cgroup_tree.controllers(bound))
        found.directory, found.how = bound, f"{how}, with the caller's own limits"
    if not root and not _may_be_parent(tree, here, scope):
        found.away = (os.path.basename(manager), f"{slices}/{name}/{os.path.basename(leaf)}")
    return found


def home(path: str) -> tuple[str, str, str]:
    """The manager's own cgroup, "" for the system's; the caller's unit there, "" for none; and the slices in which
    a scope for the caller belongs."""
    return split(path) if os.geteuid() == 0 else _of_user(path)


def split(path: str) -> tuple[str, str, str]:
    """("", unit, slices) of a cgroup of the system manager: "/system.slice/a.service/b" is
    ("", "a.service", "/system.slice")."""
    slices = ""
    for name in path.strip("/").split("/"):
        if not name.endswith(".slice"):
            return "", name if name.endswith((".service", ".scope")) and name != "init.scope" else "", slices
        slices += f"/{name}"
    return "", "", slices


def _of_user(path: str) -> tuple[str, str, str]:
    """The same for the user's manager, whose own cgroup is the first: also for whoever isn't in it."""
    uid = os.geteuid()
    manager = f"/user.slice/user-{uid}.slice/user@{uid}.service"
    if not path.startswith(f"{manager}/"):
        return manager, "", "/app.slice"
    _, unit, slices = split(path[len(manager) :])
    return manager, unit, slices or "/app.slice"


def _command(name: str, unit: str, slices: str, root: bool) -> list[str]:
    options = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={name}"]
    options += [] if root else ["--user"]
    options += [
        f"--description=containers of process {cgroup_tree.process()}",
        f"--slice={os.path.basename(slices) or '-.slice'}",
    ]
    options += ["-pDelegate=yes", "-pTasksMax=infinity"]
    options += [f"-pPartOf={unit}"] if unit else []
    return options


def _run(command: list[str]) -> str:
    """What the command says, "" for nothing. It becomes the holder, which is nobody's child: a program that
    waits for all its children would wait for it for ever."""
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    readable, writable = os.pipe()
    held = [
        os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC),
        writable,
        _core.helper(),
        os.pidfd_open(cgroup_tree.process()),
    ]
    try:
        # Out of the way of the numbers that they get.
        held += [fcntl(fd, F_DUPFD_CLOEXEC, 10) for fd in held]
        numbers = ((held[4], 0), (held[4], 1), (held[5], 2), (held[6], 3), (held[7], 4))
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", '"$@" &', "sh", *command],
            _environment(),
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in numbers],
            setsid=True,
            setsigmask=[],
        )
    except BaseException:
        os.close(readable)
        raise
    finally:
        for fd in held:
            os.close(fd)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody who waits for everybody has had it
    with open(readable, "rb", buffering=0) as pipe:
        return _read_to_the_end(pipe.fileno())


def _read_to_the_end(fd: int) -> str:
    from select import POLLIN, poll
    from time import monotonic

    waiting, end, said = poll(), monotonic() + _PATIENCE, b""
    waiting.register(fd, POLLIN)
    while (left := end - monotonic()) > 0:
        if waiting.poll(left * 1000):
            part = os.read(fd, 4096)
            if not part:
                return said.decode(errors="replace")
            said += part
    return "no answer in time"


def _environment() -> dict[str, str]:
    run = f"/run/user/{os.geteuid()}"
    return {"PATH": _PATH, "XDG_RUNTIME_DIR": run, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={run}/bus"}


def _explain(said: str, root: bool) -> None:
    line = said.strip().rpartition("\n")[2][:60] or "no scope"
    if root:
        refuse(
            errno.EOPNOTSUPP,
            f"systemd-run: {line}",
            "name a cgroup: cgroup_parent (docs/cgroups.md#no-manager)",
        )
    if not os.path.exists(f"/run/user/{os.geteuid()}/systemd/private"):
        hint = f"as root: loginctl enable-linger {_own_name()} (docs/cgroups.md#no-manager)"
        refuse(errno.EACCES, "no systemd manager for this user", hint)
    refuse(errno.EACCES, f"systemd-run --user: {line}", "docs/cgroups.md#no-manager")


def _own_name() -> str:
    from pwd import getpwuid

    try:
        return getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _may_be_parent(tree: Tree, here: str, scope: str) -> bool:
    """Whether the kernel lets a process in ``here`` have children in ``scope``."""
    return os.access(f"{cgroup_tree.common(tree, here, scope)}/cgroup.procs", os.W_OK, effective_ids=True)


def attach(trees: Trees, found: Place) -> None:
    """Sees to it that the launcher runs, in the leaf: systemd's own hand moves it, the caller may not.

    Another one is there when the last has ended, or the calling thread isn't any more what it was made as.
    """
    if _core.launcher() == found.launcher:
        return
    with trees.lock:
        _attach(found)


def _attach(found: Place) -> None:
    pid = _core.launcher()
    if pid == found.launcher:
        return
    assert found.away is not None
    unit, below = found.away
    command = [
        "busctl", "--system", "--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager", "AttachProcessesToUnit", "ssau", unit, below, "1", str(pid),
    ]  # fmt: skip
    said = _run(command)
    if not read_or(f"/proc/{pid}/cgroup", "").strip().endswith(below):
        line = said.strip().rpartition("\n")[2][:60]
        refuse(
            errno.EACCES, f"busctl AttachProcessesToUnit: {line}", "install dbus (docs/cgroups.md#no-manager)"
        )
    found.launcher = pid
