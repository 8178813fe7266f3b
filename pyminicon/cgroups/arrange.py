"""What is done with a cgroup that is the caller's to arrange: emptied, given controllers, given limits."""

from __future__ import annotations

import errno
import os

from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups.files import refuse
from pyminicon.cgroups.tree import LEAF, chain, controllers, read_or
from pyminicon.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cgroups.tree import Tree

_DOCS = "docs/cgroups.md"
_LOOKS = 100  # at a lock, 10 ms apart


def clear(directory: str) -> str:
    """Moves all processes of ``directory`` into a leaf below it; the leaf, "" where nothing had to move.

    Processes fork meanwhile, and others may be doing the same: locked, and until none is left. Anybody may hold the
    lock, which is a directory's that all can read: past a second it holds nobody up, for two who move the same
    processes only do so twice.
    """
    if not read_or(f"{directory}/cgroup.procs", "").strip():
        return f"{directory}/{LEAF}" if os.path.isdir(f"{directory}/{LEAF}") else ""
    if "threaded" in read_or(f"{directory}/cgroup.type", ""):
        hint = f"its cgroup is threaded: start it as a unit of its own ({_DOCS}#threaded)"
        refuse(errno.EOPNOTSUPP, directory, hint)
    from time import sleep

    leaf = f"{directory}/{LEAF}"
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(lock)
        os.makedirs(leaf, exist_ok=True)
        for pause in (0.0,) * 20 + (0.001,) * 200 + (0.01,) * 100:
            left = read_or(f"{directory}/cgroup.procs", "").split()
            for pid in left:
                _move(pid, leaf)
            if not left:
                break
            sleep(pause)
        else:
            subject = f"{directory}/cgroup.procs"
            refuse(errno.EBUSY, subject, f"processes that can't be moved are in there ({_DOCS}#place)")
    except LaunchError:
        raise
    except OSError as error:
        refuse(
            error.errno or errno.EIO, error.filename or leaf, f"the unit isn't the caller's ({_DOCS}#place)"
        )
    finally:
        os.close(lock)
    return leaf


def _lock(fd: int) -> None:
    from fcntl import LOCK_EX, LOCK_NB, flock
    from time import sleep

    for _ in range(_LOOKS):
        try:
            flock(fd, LOCK_EX | LOCK_NB)
            break
        except BlockingIOError:
            sleep(0.01)


def _move(pid: str, directory: str) -> None:
    try:
        write(f"{directory}/cgroup.procs", pid)
    except ProcessLookupError:
        return  # it has ended
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EINVAL):  # 0, of another PID namespace, or a kernel thread
            raise


def write(path: str, text: str) -> None:
    """One write to a file of the kernel's. Raises OSError with the file's name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(descriptor)


def give_controllers(directory: str, names: set[str]) -> None:
    """Enables for the children of ``directory`` what of ``names`` it has; one after the other, for a
    controller that is refused takes the others of its write along."""
    have = controllers(directory) & names & set(cgroup_tree.CONTROLLERS)
    for name in sorted(have - controllers(directory, "cgroup.subtree_control")):
        try:
            write(f"{directory}/cgroup.subtree_control", f"+{name}")
        except OSError:
            continue  # whoever asks for it is told (v2.enable)


# The caller's own limits


def own_limits(tree: Tree, here: str, place: str) -> dict[str, str]:
    """{file: value} of the limits that hold for the caller in ``here`` and not for what is in ``place``."""
    shared = set(chain(tree, place))
    own = [directory for directory in chain(tree, here) if directory not in shared]
    limits = {}
    for file in ("memory.max", "memory.high", "memory.swap.max", "pids.max"):
        values = [read_or(f"{directory}/{file}", "max").strip() for directory in own]
        if numbers := [int(value) for value in values if value.isdigit()]:
            limits[file] = str(min(numbers))
    quotas = [read_or(f"{directory}/cpu.max", "").split() for directory in own]
    if rates := [(int(quota[0]) / int(quota[1]), quota) for quota in quotas if quota and quota[0].isdigit()]:
        limits["cpu.max"] = " ".join(min(rates)[1])
    if cpus := _fewer_cpus(here, place):
        limits["cpuset.cpus"] = cpus
    return limits


def _fewer_cpus(here: str, place: str) -> str:
    from pyminicon.cgroups.limits import form_cpus, parse_cpus

    def effective(directory: str) -> set[int]:
        while not os.path.exists(f"{directory}/cpuset.cpus.effective"):
            above = directory.rpartition("/")[0]
            if not os.path.exists(f"{above}/cgroup.procs"):
                break
            directory = above
        return set(parse_cpus(read_or(f"{directory}/cpuset.cpus.effective", "").strip()) or ())

    mine, theirs = effective(here), effective(place)
    return form_cpus(sorted(mine & theirs)) if mine and theirs - mine else ""


def impose(directory: str, limits: dict[str, str]) -> None:
    """Writes the caller's own limits to ``directory``. Raises LaunchError where one can't be kept."""
    for file, value in limits.items():
        try:
            write(f"{directory}/{file}", value)
        except OSError as error:
            if file == "memory.swap.max" and error.errno == errno.ENOENT:
                continue  # this kernel doesn't count swap
            hint = f"the caller's own limit can't be kept for its containers ({_DOCS}#own-limits)"
            refuse(error.errno or errno.EIO, f"{directory}/{file}", hint)
