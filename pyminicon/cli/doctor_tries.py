"""System calls that ``doctor`` tries, each in a forked child, so that nothing of them is left.

Each ``try_*`` returns what it has seen (a few words, possibly empty) or raises OSError with the kernel's
answer. Numbers are of the generic system call table: the same on x86_64 and aarch64 since Linux 5.0.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
_INTO_CGROUP, _CLEAR_SIGHAND = 1 << 33, 1 << 32
_OPEN_TREE, _MOVE_MOUNT, _CLONE3, _CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 428, 429, 435, 436, 437, 442
_PIDFD_OPEN = 434
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_NAMESPACE, _CLOEXEC = 1, 2, os.O_CLOEXEC
_RESOLVE_IN_ROOT = 0x10
_ATTR_IDMAP = 0x100000
_TIOCSTI, _TIOCSCTTY = 0x5412, 0x540E
_MS_PRIVATE_REC = (1 << 18) | (1 << 14)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def in_child(work: Callable[[], str]) -> str:
    """What ``work`` returns in a forked child. Raises the OSError that it raises there."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = f"0 {work()}"
        except OSError as error:
            answer = f"{error.errno or 5} {error.strerror}"
        except BaseException as error:
            answer = f"5 {error!r}"
        os.write(writable, answer.encode())
        os._exit(0)
    os.close(writable)
    with open(readable, "rb") as pipe:
        number, _, words = pipe.read().decode().partition(" ")
    os.waitpid(pid, 0)
    if number != "0":
        raise OSError(int(number or 5), words)
    return words


def syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """The system call's result. Raises OSError."""
    ctypes.set_errno(0)
    result = _libc.syscall(
        number, *(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _called(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _called(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    )


def unshare(flags: int) -> None:
    """unshare(2)."""
    _called(_libc.unshare(flags))


def become_root() -> None:
    """A user namespace in which the caller's one id is root; nothing for whoever is root already."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    unshare(NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def try_namespace(flag: int) -> str:
    become_root()
    unshare(flag)
    return ""


def try_user_namespace() -> str:
    unshare(NEWUSER)
    return ""


def try_id_map() -> str:
    uid, gid = os.geteuid(), os.getegid()
    unshare(NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")
    # A namespace that gives no power (AppArmor's way of restricting it) shows only here.
    unshare(NEWUTS)
    return ""


def _own_mounts() -> str:
    """A mount namespace with a tmpfs of ours to work in; its path."""
    become_root()
    unshare(NEWNS)
    mount("none", "/", "none", _MS_PRIVATE_REC)
    place = tempfile.gettempdir()
    mount("none", place, "tmpfs", 0, "size=1m")
    return place


def try_overlay(options: str = "") -> str:
    """An overlay over a tmpfs, and a directory made anew in it: that needs xattrs the kernel may refuse."""
    place = _own_mounts()
    for name in ("lower", "lower/d", "upper", "work", "merged"):
        os.mkdir(f"{place}/{name}")
    layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work{options}"
    mount("overlay", f"{place}/merged", "overlay", 0, layers)
    os.rmdir(f"{place}/merged/d")
    os.mkdir(f"{place}/merged/d")
    return "with directories that hide what is below"


def try_overlay_in_user_namespace() -> str:
    if os.geteuid() == 0:
        # Root's own try would be by another set of rules: mapped to itself it is what an ordinary user is.
        try_id_map()
    return try_overlay(",userxattr")


def try_mount_calls() -> str:
    place = _own_mounts()
    os.mkdir(f"{place}/t")
    tree = syscall(_OPEN_TREE, _AT_FDCWD, place.encode(), _OPEN_TREE_CLONE | _CLOEXEC)
    attributes = (ctypes.c_char * 32).from_buffer_copy((1).to_bytes(8, "little") + bytes(24))  # read-only
    syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, 32)
    syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, f"{place}/t".encode(), 4)
    try:
        os.mkdir(f"{place}/t/x")
    except OSError:
        return ""
    raise OSError(5, "a read-only mount could be written")


def try_id_mapped_mount() -> str:
    place = _own_mounts()
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(NEWUSER)
            os.write(writable, b".")
            time.sleep(60)  # it ends by the kill
        finally:
            os._exit(1)
    os.close(writable)
    try:
        if not os.read(readable, 1):
            raise OSError(1, "no user namespace")
        _write(f"/proc/{pid}/uid_map", "0 100000 65536")
        _write(f"/proc/{pid}/gid_map", "0 100000 65536")
        users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        tree = syscall(_OPEN_TREE, _AT_FDCWD, place.encode(), _OPEN_TREE_CLONE | _CLOEXEC)
        words = (_ATTR_IDMAP, 0, 0, users)
        attributes = b"".join(word.to_bytes(8, "little") for word in words)
        syscall(
            _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, (ctypes.c_char * 32).from_buffer_copy(attributes), 32
        )
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return "of a tmpfs"


def try_openat2() -> str:
    how = (os.O_PATH | _CLOEXEC).to_bytes(8, "little") + bytes(8) + _RESOLVE_IN_ROOT.to_bytes(8, "little")
    syscall(_OPENAT2, _AT_FDCWD, b"/", (ctypes.c_char * 24).from_buffer_copy(how), 24)
    return ""


def _clone3(flags: int, cgroup: int = 0) -> None:
    words = (flags, 0, 0, 0, 17, 0, 0, 0, 0, 0, cgroup)  # exit signal SIGCHLD
    arguments = b"".join(word.to_bytes(8, "little") for word in words)
    pid = syscall(_CLONE3, (ctypes.c_char * 88).from_buffer_copy(arguments), 88)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def try_clone3() -> str:
    _clone3(_CLEAR_SIGHAND)
    return ""


def try_close_range() -> str:
    syscall(_CLOSE_RANGE, 1000, 1001, 4)
    return ""


def try_pidfd() -> str:
    syscall(_PIDFD_OPEN, os.getpid(), 0)
    return ""


def try_into_cgroup(directory: str) -> str:
    _clone3(_INTO_CGROUP, os.open(directory, os.O_PATH | os.O_DIRECTORY))
    return ""


def try_tree_as_namespace() -> str:
    place = _own_mounts()
    flags = _OPEN_TREE_NAMESPACE | _AT_RECURSIVE | _CLOEXEC
    syscall(_OPEN_TREE, _AT_FDCWD, place.encode(), flags)
    return ""


def try_seccomp() -> str:
    """A filter of one instruction that allows everything."""
    program = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\xff\x7f", 8)
    described = (ctypes.c_char * 16).from_buffer_copy(
        (1).to_bytes(8, "little") + ctypes.addressof(program).to_bytes(8, "little")
    )
    _called(_libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    _called(_libc.prctl(22, 2, described))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    return ""


def try_typing_into_a_terminal() -> str:
    """TIOCSTI on a terminal of our own, without CAP_SYS_ADMIN: succeeds where the kernel still allows it."""
    import fcntl

    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    _, inner = os.openpty()
    os.setsid()
    fcntl.ioctl(inner, _TIOCSCTTY, 0)
    fcntl.ioctl(inner, _TIOCSTI, b"x")
    return ""
