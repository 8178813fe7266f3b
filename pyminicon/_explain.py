"""Why a stage of the launch failed, where that can be known: the hint of a LaunchError.

Imported only when something has gone wrong.
"""

from __future__ import annotations

import errno
import os

from pyminicon.errors import LaunchError


def launch_error(number: int, stage: str, subject: str, hint: str | None) -> LaunchError:
    """The exception for a failed launch (called by the core), with a hint if we know one.

    A hint is only given for what the machine itself says; a guess would send people astray.
    """
    if hint is None:
        explain = _EXPLAIN.get(stage)
        hint = explain(number, subject) if explain else None
        # A filter may forbid any call of the set-up; the program's own file and directory are no such call.
        if hint is None and number in (errno.EPERM, errno.ENOSYS) and stage not in ("exec", "cwd"):
            hint = filtered()
        hint = hint or _own_limit(number)
    return LaunchError(number, stage, subject, hint)


def _own_limit(number: int) -> str | None:
    """A limit of the caller's own that the steps of a launch are under as well."""
    import resource

    if number == errno.EMFILE:
        return "raise the limit of descriptors: ulimit -n 8192"
    if number == errno.EFBIG and resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return "raise the limit of a file's size: ulimit -f unlimited"
    return None


def _text(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _first_line(path: str) -> str:
    return _text(path).partition("\n")[0].strip()


def filtered() -> str | None:
    """The remedy, if this process is under a seccomp filter; what that forbids fails as if the kernel did."""
    if "\nSeccomp:\t2\n" not in _text("/proc/self/status"):
        return None
    return "a seccomp filter forbids it: run the outer container with --security-opt seccomp=unconfined"


def _user_namespaces_forbidden() -> str | None:
    if _first_line("/proc/sys/user/max_user_namespaces") == "0":
        return "user namespaces are turned off: sysctl user.max_user_namespaces=10000"
    if _first_line("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "user namespaces are for root only: sysctl kernel.unprivileged_userns_clone=1"
    if _first_line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor restricts user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    if remedy := filtered():
        return remedy
    if _in_chroot():
        return "in a chroot the kernel refuses user namespaces: enter it by unshare --mount and pivot_root"
    if not _text("/proc/self/uid_map").strip():
        return "the caller's own uid isn't mapped in its user namespace: unshare --map-root-user"
    sys_admin = 21
    if not _lacks(sys_admin):
        return None
    more = ": run the outer container with --cap-add SYS_ADMIN" if _in_container() else ""
    return f"the caller lacks CAP_SYS_ADMIN{more}"


def _in_chroot() -> bool:
    """As far as it can be seen from inside: the root is a directory of a mount that isn't the first in the list."""
    mounts = _text("/proc/self/mountinfo")
    return bool(mounts) and all(line.split(" ", 5)[4] != "/" for line in mounts.splitlines())


def _lacks(capability: int) -> bool:
    for line in _text("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return not int(line.split()[1], 16) >> capability & 1
    return False


def _not_dumpable() -> str | None:
    """A change of uid leaves a process so until it execs: then its files in /proc are root's."""
    import ctypes

    get_dumpable = 3
    if ctypes.CDLL(None).prctl(get_dumpable, 0, 0, 0, 0) == 1:
        return None
    return "this process isn't dumpable: call prctl(PR_SET_DUMPABLE, 1) after the change of uid"


def _in_container() -> bool:
    return os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv") or "container" in os.environ


def _children_live_elsewhere(number: int) -> str | None:
    """Whoever calls unshare(CLONE_NEWPID) or setns(2) stays where he is, and his children begin in another PID namespace;
    with its first process it ends, and what is cloned from outside can't have a further one (pid_namespaces(7))."""
    if number not in (errno.EINVAL, errno.ENOMEM, errno.ECHILD):
        return None
    try:
        if os.readlink("/proc/thread-self/ns/pid") == os.readlink("/proc/thread-self/ns/pid_for_children"):
            return None
    except FileNotFoundError:  # so it is as long as that namespace has no process
        if not os.path.exists("/proc/thread-self/ns/pid"):
            return None
    return "children of this process begin in another PID namespace: fork after unshare(CLONE_NEWPID)"


def _forbidden(number: int, subject: str) -> str | None:
    if elsewhere := _children_live_elsewhere(number):
        return elsewhere
    if number in (errno.EPERM, errno.ENOSYS) and (remedy := filtered()):
        return remedy
    return "the kernel is too old; Linux 5.12 is needed" if number == errno.ENOSYS else None


def _loopback(number: int, subject: str) -> str | None:
    if number == errno.EPERM:
        return (
            'a loopback of its own takes CAP_NET_ADMIN, which the caller lacks: network="host" goes without'
        )
    return filtered() if number == errno.ENOSYS else None


def _sysctl(number: int, subject: str) -> str | None:
    if number == errno.ENOENT:
        return "not a setting of a container's network: there is none, or it is the whole machine's"
    if number in (errno.EINVAL, errno.ERANGE):
        return "the kernel doesn't take that value for it"
    if number == errno.EACCES:
        return "it can't be written from a network of a container's own"
    if number == errno.EROFS:
        return "/proc/sys is read-only for the caller: --security-opt systempaths=unconfined outside"
    return None


def _clone(number: int, subject: str) -> str | None:
    if elsewhere := _children_live_elsewhere(number):
        return elsewhere
    if number in (errno.EPERM, errno.EACCES):
        return _user_namespaces_forbidden()
    if number == errno.ENOSYS and (remedy := filtered()):
        return remedy
    if number == errno.ENOSPC and _first_line("/proc/sys/user/max_user_namespaces") == "0":
        return _user_namespaces_forbidden()
    if number == errno.ENOSPC:
        return "a limit of /proc/sys/user/max_*_namespaces is reached"
    if number == errno.EAGAIN:
        return _init(number, subject)
    if number in (errno.EINVAL, errno.ENOSYS):
        return "the kernel is too old or built without one of the namespaces; Linux 5.12 is needed"
    if number == errno.EBUSY:
        return "the cgroup can't take a process: on cgroup v2 only a leaf can"
    return None


def _userns(number: int, subject: str) -> str | None:
    if number in (errno.EPERM, errno.EACCES):
        setfcap = 31  # since Linux 5.12
        if os.geteuid() == 0 and _lacks(setfcap):
            return "a uid 0 is mapped only with CAP_SETFCAP, which the caller lacks"
        return (
            _not_dumpable()
            or _user_namespaces_forbidden()
            or "the id maps may not be written: a security module restricts it"
        )
    return None


def _mount(number: int, subject: str) -> str | None:
    if number == errno.ELOOP:
        return "a symbolic link where none may be, or one that leads to itself; name the real path"
    if number == errno.EPERM and subject in ("/proc", "/sys"):
        return (
            "hidden by the outer container: --security-opt systempaths=unconfined there (podman: unmask=ALL)"
        )
    if number == errno.EOPNOTSUPP:
        return "a device can't be a volume: each is mounted nodev, and only the usual devices are there"
    if number in (errno.EINVAL, errno.ENOTDIR):
        return "a file goes onto a file and a directory onto a directory"
    if number == errno.ENODEV:
        return "the kernel has no such file system, or the device isn't what its name says"
    return None


def _rootfs(number: int, subject: str) -> str | None:
    if number == errno.EINVAL:
        return (
            'overlayfs can\'t take it as a layer, as one of an overlay: use read_only=True or storage="disk"'
        )
    if number == errno.ENODEV:
        return "the kernel has no overlayfs: use read_only=True"
    return None


def _exec(number: int, subject: str) -> str | None:
    if number == errno.ENOEXEC:
        return "not an executable format of this machine; a script needs a #! line"
    if number == errno.EAGAIN:
        return "nproc counts all processes of this uid, outside as well: raise it"
    if number == errno.ENOENT and " " in subject.strip():
        return "one word names the program; for a shell line: sh -c 'LINE'"
    if number == errno.ENOENT and not subject:
        return "the program's name is empty"
    if number == errno.ENOENT and "/" in subject:
        return "the program, or the interpreter it names, isn't in the image"
    if number == errno.ENOENT:
        return "not in the PATH of the image, or the interpreter it names isn't in the image"
    return None


def _timens(number: int, subject: str) -> str | None:
    if number == errno.EACCES:
        return _not_dumpable()
    if number == errno.EOPNOTSUPP:
        return "this kernel moves only forked processes into a new time namespace: it takes about Linux 6.2"
    return None


def _init(number: int, subject: str) -> str | None:
    if number == errno.EAGAIN:
        return "a limit on processes is reached: RLIMIT_NPROC, pids.max or kernel.pid_max"
    return None


def _rlimit(number: int, subject: str) -> str | None:
    if number == errno.EPERM:
        return "above the caller's hard limit, or for nofile above /proc/sys/fs/nr_open"
    return None


def _signals(number: int, subject: str) -> str | None:
    if number == errno.EPERM and _first_line("/proc/sys/kernel/core_pattern").startswith("|"):
        return "with a hard core limit of 0 the host's core_pattern would run: raise it to 1 (ulimit -Hc)"
    return None


_EXPLAIN = {
    "watch": _forbidden,
    "signals": _signals,
    "rlimit": _rlimit,
    "clone": _clone,
    "init": _init,
    "network": _clone,
    "loopback": _loopback,
    "sysctl": _sysctl,
    "pivot_root": _forbidden,
    "userns": _userns,
    "mount": _mount,
    "rootfs": _rootfs,
    "exec": _exec,
    "timens": _timens,
}
