"""Names for cgroups that tell who owns them, and the removal of what dead owners left.

A name is ``pyminicon-<boot>-<pid namespace>-<pid>-<start time>-<number>``. Pids come back, and the
same pid means somebody else in another PID namespace: an owner is known by all four together.
"""

from __future__ import annotations

import os

from pyminicon.cgroups.tree import Trees, caller_directory, process, read, read_or

PREFIX = "pyminicon-"

# include/linux/proc_ns.h, PROC_PID_INIT_INO: from this PID namespace every process is seen.
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC

_owner: tuple[int, str] | None = None


def _started(pid: int | str) -> tuple[str, bool]:
    """(start time in clock ticks since boot, whether it is dead but not reaped) of a process.

    A process whose first thread has ended shows as a zombie while its other threads go on: only
    one with a single thread left is dead. Raises OSError when there is no such process.
    """
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19], fields[0] in "ZX" and int(fields[17]) <= 1


def _boot() -> str:
    return read_or("/proc/sys/kernel/random/boot_id", "00000000")[:8]


def _namespace(pid: int | str, kind: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def owner() -> str:
    """How the cgroups of this process begin: ``pyminicon-<boot>-<pid namespace>-<pid>-<start>``."""
    global _owner
    pid = process()
    if _owner is None or _owner[0] != pid:
        which = "self" if pid == os.getpid() else pid
        name = f"{PREFIX}{_boot()}-{_namespace('self', 'pid')}-{pid}-{_started(which)[0]}"
        _owner = (pid, name)
    return _owner[1]


def _somebody_in(namespace: int) -> bool:
    """Whether a PID namespace has a process; True where that can't be seen."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if _namespace(entry, "pid") == namespace:
                    return True
            except FileNotFoundError:
                continue
            except OSError:
                return True
    return False


def is_dead(name: str) -> bool:
    """Whether the process that made the cgroup ``name`` is gone. False for every doubt."""
    parts = name.split("-")
    if len(parts) != 6 or not name.startswith(PREFIX):
        return False
    boot, namespace, pid, start, number = parts[1:]
    if not (namespace.isdigit() and pid.isdigit() and start.isdigit() and number.isdigit()):
        return False
    try:
        here = _namespace("self", "pid")
        if boot != _boot():
            return False
        if int(namespace) != here:
            return here == _INITIAL_PID_NAMESPACE and not _somebody_in(int(namespace))
        return _is_gone(int(pid), start)
    except OSError:
        return False


def _is_gone(pid: int, start: str) -> bool:
    """Whether no process of this PID namespace has this pid and this start time."""
    try:
        os.kill(pid, 0)  # asks the kernel and not /proc, where hidepid= hides other users' processes
    except ProcessLookupError:
        return True
    except OSError:
        pass
    if os.readlink("/proc/self") != str(os.getpid()):
        return False  # /proc is another PID namespace's: its pids mean somebody else
    then, ended = _started(pid)
    if then == start:
        return ended
    # The same process shows another start time to a reader in another time namespace.
    return _namespace(pid, "time") == _namespace("self", "time")


def _kill_all(directory: str) -> None:
    """SIGKILL to every process of a cgroup, by pidfd: a pid may have been given away meanwhile."""
    try:
        with open(f"{directory}/cgroup.kill", "w") as file:
            file.write("1")
        return
    except OSError:
        pass  # v1, or before 5.14
    held = []
    try:
        for pid in read_or(f"{directory}/cgroup.procs", "").split():
            try:
                held.append((pid, os.pidfd_open(int(pid))))
            except OSError:
                continue
        still = set(read_or(f"{directory}/cgroup.procs", "").split())
        for pid, descriptor in held:
            if pid in still:
                _send_kill(descriptor)
    finally:
        for _, descriptor in held:
            os.close(descriptor)
    _let_go(directory)


def _let_go(directory: str) -> None:
    """v1: what has been killed while it was frozen dies only when it goes on."""
    try:
        with open(f"{directory}/freezer.state", "w") as file:
            file.write("THAWED")
    except OSError:
        pass  # nothing is frozen by this one


def _send_kill(descriptor: int) -> None:
    from signal import SIGKILL, pidfd_send_signal

    try:
        pidfd_send_signal(descriptor, SIGKILL)
    except OSError:
        return  # it is dead already


def _remove(directory: str, patience: float) -> bool:
    """Remove a cgroup and what is below it; waits ``patience`` seconds for the killed to be gone."""
    pause = 0.0005
    while True:
        try:
            os.rmdir(directory)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            from errno import EBUSY

            if error.errno != EBUSY or patience <= 0:
                return False
        try:
            below = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return True  # somebody else sweeps as well
        for path in below:
            _remove(path, min(patience, 0.02))
        _kill_all(directory)
        from time import sleep

        sleep(pause)
        patience -= pause
        pause = min(pause * 2, 0.05)


def sweep_directory(parent: str, patience: float = 1.0) -> list[str]:
    """Remove what dead owners left in ``parent``; the paths that were removed.

    Processes that are still in there are killed first. Nothing of a living owner is touched, and
    nothing whose name isn't one of ours.
    """
    gone: list[str] = []
    try:
        entries = os.listdir(parent)
    except OSError:
        return gone
    mine = owner() + "-"
    verdicts: dict[str, bool] = {}
    for entry in entries:
        if not entry.startswith(PREFIX) or entry.startswith(mine):
            continue
        who = entry.rpartition("-")[0]
        if who not in verdicts:
            verdicts[who] = is_dead(entry)
        if not verdicts[who]:
            continue
        if _remove(f"{parent}/{entry}", patience):
            gone.append(f"{parent}/{entry}")
        else:
            patience = 0.0  # something in there can't be killed: a launch doesn't wait for each of its kind
    return gone


def sweep(found: Trees, directories: list[str] | None = None) -> list[str]:
    """Sweep below the caller's own cgroup in every tree, and ``directories``; each once per process.

    In every tree, not only in those that this launch needs: the dead owner may have had other
    limits. One readdir each, about 10 us. v1's freezer is first: what is frozen stays in all trees.
    """
    gone = []
    wanted = directories or []
    if not found.swept_own:
        freezer = found.v1.get("freezer")
        trees = sorted(found.all(), key=lambda tree: tree is not freezer)
        wanted = [caller_directory(tree) for tree in trees] + wanted
    for directory in wanted:
        if directory not in found.swept:
            found.swept.add(directory)
            gone += sweep_directory(directory)
    found.swept_own = True
    return gone
