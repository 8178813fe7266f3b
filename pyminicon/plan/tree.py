"""The root as it is planned, and what every container has in it: a private layer, its own names in /etc, and the
kernel's file systems without what tells of the machine."""

from __future__ import annotations

import os
import stat

from pyminicon import plan as ops
from pyminicon.errors import SpecError, insist
from pyminicon.plan import op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.plan import Draft, Pieces

# What docker hides and what it makes read-only below /proc and /sys.
_MASKED_FILES = (
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/interrupts",
)
# Where the machine's memory lies and what it is used for: for the host's root alone, whom a private user namespace
# has not.
_MASKED_FROM_ROOT = (
    "proc/kpagecgroup",
    "proc/kpagecount",
    "proc/kpageflags",
    "proc/slabinfo",
    "proc/vmallocinfo",
)
_MASKED_PROC = ("proc/acpi", "proc/asound", "proc/scsi")
_MASKED_SYS = ("sys/firmware", "sys/devices/virtual/powercap")
_READ_ONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")


def choose_storage(builder: Draft) -> None:
    """Where the private layer lies. Raises SpecError."""
    spec, fields = builder.spec, builder.fields
    kind, size = spec.storage
    if kind == "tmpfs" and builder.private_users and not _tmpfs_can_be_a_layer():
        if size and not spec.read_only:
            raise SpecError(
                "storage",
                "a tmpfs can be the layer in a user namespace from Linux 6.6 on, and only a tmpfs has a size: use 'disk'",
            )
        kind = "disk"
    if kind == "disk" and not spec.read_only:
        from pyminicon.images.lookup import own_store

        fields["disk_parent"] = f"{own_store()}/scratch"
    else:
        fields["scratch_tmpfs"] = f"size={size or '512m'},mode=755,nr_inodes=1m"
    if builder.private_users:
        fields["overlay_options"] = "userxattr"


_layers_on_tmpfs: bool | None = None


def _tmpfs_can_be_a_layer() -> bool:
    """Whether a tmpfs takes the user.* attributes by which overlayfs in a user namespace marks a
    directory opaque: since Linux 6.6. Before, it mounts, and the first rmdir and mkdir of a name fails."""
    global _layers_on_tmpfs
    if _layers_on_tmpfs is None:
        fd = os.memfd_create("pyminicon-probe")
        try:
            os.setxattr(fd, "user.overlay.opaque", b"y")
            _layers_on_tmpfs = True
        except OSError:
            _layers_on_tmpfs = False
        finally:
            os.close(fd)
    return _layers_on_tmpfs


def put_names(builder: Draft) -> None:
    """hosts, hostname, what resolves in the host's network, and the mark of a container."""
    spec = builder.spec
    name = None if builder.fields.get("hostname_is_id") else builder.hostname
    hosts, own_line = _LOCALHOST, _own_line(name)
    resolv_conf = None
    if spec.network == "host":
        hosts = _read_host("/etc/hosts") or hosts
        resolv_conf = _read_host("/etc/resolv.conf") or b""
        if not hosts.endswith(b"\n"):
            hosts += b"\n"
        if name is not None and _has_name(hosts, name):
            own_line = (b"",)
    if spec.network == "pasta":
        from pyminicon.plan import pasta

        resolv_conf = pasta.lead_out(builder)
    more = "".join(f"{address}\t{name}\n" for name, address in spec.add_host or ()).encode()
    if spec.dns:
        resolv_conf = "".join(f"nameserver {address}\n" for address in spec.dns).encode()
    put = builder.tree.put
    put("etc/hostname", (b"", b"\n") if name is None else f"{name}\n".encode(), 0o644)
    pieces = [*own_line]
    pieces[0] = hosts + pieces[0]
    pieces[-1] += more
    put("etc/hosts", tuple(pieces), 0o644)
    if resolv_conf is not None:
        put("etc/resolv.conf", resolv_conf, 0o644)
    # Read-only, a directory that has all names is bound and not covered.
    if not spec.read_only and _has_run(builder):
        put("run/.containerenv", b"", 0o644)  # by it programs tell that this is a container (podman-run(1))


def own_what_anybody_writes(builder: Draft) -> None:
    """Gives an ordinary user these directories of an image that belongs to somebody else.

    overlayfs copies a directory up before anything in it is made, with its owner; one that has no name in the user
    namespace can't be given (EOVERFLOW), so that not even /tmp could be written.
    """
    me = os.geteuid()
    for path in ("tmp", "var/tmp", "run", builder.home.strip("/")):
        found = builder.plan.rootfs.entry(path) if path else None
        # Where the user may not look into the image's own, it couldn't be seen whether a name is taken.
        if found is not None and found.st_uid != me and found.st_mode & 0o005 == 0o005:
            builder.tree.directory_in_layer(path)


def _has_run(builder: Draft) -> bool:
    root = builder.plan.rootfs
    if not root.layers:  # the host's image, which has one of its own
        return True
    found = root.entry("run")
    return found is not None and stat.S_ISDIR(found.st_mode)


_PIECE, _MOST_PIECES = 1 << 14, 64  # of a file of this machine, a megabyte in all
_LOCALHOST = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def _own_line(name: str | None) -> Pieces:
    """Its own name, by which sudo, Java and `hostname -f` look the container up. None: its id."""
    if name is None:
        return b"127.0.1.1\t", b"\n"
    short = name.partition(".")[0]
    alias = f" {short}" if short not in ("", name) else ""
    return (f"127.0.1.1\t{name}{alias}\n".encode(),)


def _has_name(hosts: bytes, name: str) -> bool:
    return any(name.encode() in line.partition(b"#")[0].split()[1:] for line in hosts.split(b"\n"))


def _read_host(path: str) -> bytes | None:
    """A file of this machine, links followed: resolv.conf is one into /run wherever systemd is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A small piece at a time: the pages of a megabyte's buffer take six times as long as the file.
            pieces = [os.read(fd, _PIECE)]
            while len(pieces[-1]) == _PIECE and len(pieces) < _MOST_PIECES:
                pieces.append(os.read(fd, _PIECE))
            return b"".join(pieces)
        finally:
            os.close(fd)
    except OSError as error:
        insist(error, path)
        return None


def mount_kernels(builder: Draft) -> None:
    """/proc, /dev and /sys, and what of them is hidden or read-only."""
    spec, mounts, sys_mounts = builder.spec, builder.tree.mounts, builder.tree.sys_mounts
    own = ops.NO_SYMLINK
    no_proc = builder.private_users and spec.pid == "host"
    no_sys = builder.private_users and spec.network == "host"
    bind = ops.HOST_BIND | ops.RECURSIVE
    mounts.append(op(ops.PROC, "proc", "/proc", flags=own | ops.NO_EXEC | (bind if no_proc else 0)))
    # A message queue file system belongs to its IPC namespace's user namespace: the host's is refused.
    queue = 0 if builder.private_users and spec.ipc == "host" else ops.MQUEUE
    dev = own | queue | (ops.BIND_NODES if builder.private_users else 0)
    dev |= ops.CONSOLE_TARGET if spec.tty else 0
    # devpts takes only a group that has a name in the user namespace.
    tty_group = ",gid=5" if builder.has_tty_group else ""
    mounts.append(
        op(ops.DEV, "dev", f"ptmxmode=0666,mode=0620{tty_group}", "size=64m,mode=1777,nr_inodes=64k", dev)
    )
    if spec.ipc == "host":
        mounts.append(op(ops.BIND, "dev/shm", "/dev/shm", flags=ops.RECURSIVE))
    if spec.tty:
        from pyminicon.terminal import name_of

        mounts.append(op(ops.CONSOLE, "dev/console", name_of(spec.stdin)))
    hide = spec.systempaths == "default"
    if hide:
        _hide_proc(mounts, builder.private_users)
    sys_flags = own | ops.RO | ops.NO_EXEC | (bind if no_sys else 0)
    sys_mounts.append(op(ops.SYSFS, "sys", "/sys", flags=sys_flags))
    if builder.fields.get("cgroup") is not None:
        sys_mounts.append(op(ops.CGROUP, "sys/fs/cgroup", flags=ops.RO | ops.IF_TARGET))
    masked = _present(_MASKED_SYS + _thermal_throttles()) if hide else ()
    sys_mounts += [op(ops.MASK_DIR, path) for path in masked]


def _hide_proc(mounts: list[ops.Op], private_users: bool) -> None:
    mounts += [
        op(ops.MASK_FILE, path)
        for path in _present(_MASKED_FILES if private_users else _MASKED_FILES + _MASKED_FROM_ROOT)
    ]
    mounts += [op(ops.MASK_DIR, path) for path in _present(_MASKED_PROC)]
    mounts += [op(ops.READ_ONLY, path) for path in _present(_READ_ONLY)]


_known: dict[str, bool] = {}
_throttles: tuple[str, ...] | None = None


def _thermal_throttles() -> tuple[str, ...]:
    """A directory a processor: how often it was throttled tells what others compute."""
    global _throttles
    if _throttles is None:
        top = "/sys/devices/system/cpu"
        names = os.listdir(top) if os.path.isdir(top) else []
        cpus = [name for name in names if name[:3] == "cpu" and name[3:].isdigit()]
        _throttles = tuple(f"{top[1:]}/{name}/thermal_throttle" for name in cpus)
    return _throttles


def _present(paths: tuple[str, ...]) -> list[str]:
    """Those of a kernel's fixed paths that this kernel has; asked once a process."""
    for path in paths:
        if path not in _known:
            _known[path] = os.path.lexists("/" + path)
    return [path for path in paths if _known[path]]
