"""From a checked Spec to the core's launch plan: every decision is made here, before anything runs.

The order of the birth itself is the core's (csrc/child/child.cc); what the user orders is only the
list of mounts.
"""

from __future__ import annotations

import os

from pyminicon import ops, rootfs, users
from pyminicon.errors import SpecError
from pyminicon.ops import op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from pyminicon._core import Plan as CorePlan
    from pyminicon.cgroup_limits import Limits
    from pyminicon.ops import Op
    from pyminicon.rootfs import Rootfs
    from pyminicon.spec import Spec

    #: candidates, argv, env, cwd
    Told: TypeAlias = tuple[list[str], list[str | bytes], list[str], str | bytes]

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: docker's fourteen, as a mask by the kernel's numbers; capabilities.DEFAULT_MASK is held to it by a test.
DEFAULT_CAPABILITIES = 0xA80425FB
_CAP_SYS_ADMIN = 21

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
_MASKED_PROC = ("proc/acpi", "proc/asound", "proc/scsi")
_MASKED_SYS = ("sys/firmware", "sys/devices/virtual/powercap")
_READ_ONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")


class Plan:
    """What the core takes, and what is needed afterwards.

    ``fields``: what the container is; ``told``: what the one run of it is that was asked for. ``id``: stands in
    both for the container's own id, which the core makes anew in each launch. ``core``: the fields as the core
    keeps them.
    """

    __slots__ = ("core", "entrypoint", "environment", "fields", "id", "rootfs", "stop_signal", "told")

    def __init__(self, rootfs: Rootfs, container_id: str) -> None:
        self.rootfs = rootfs
        self.id = container_id
        self.fields: dict[str, Any] = {"own_id": container_id}
        self.core: CorePlan | None = None
        self.told: Told = ([], [], [], "/")
        self.environment: dict[str, str] = {}
        self.entrypoint: list[str | bytes] | None = None  # instead of the image's, whose cmd isn't used then
        self.stop_signal = 15


def build(spec: Spec) -> Plan:
    """The plan for ``spec``. Raises SpecError or LaunchError with nothing started."""
    return _Builder(spec).build()


class _Builder:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.plan = Plan(rootfs.find(spec.image), os.urandom(6).hex())
        self.fields = self.plan.fields
        self.skeleton: list[Op] = []
        self.mounts: list[Op] = []
        self.sys_mounts: list[Op] = []  # /sys and what lies in it
        self.rootless = os.geteuid() != 0
        self.ranges: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] | None = None
        self.single_map = False  # one id is mapped and the child writes the map itself
        self.has_tty_group = True
        self.private_users = spec.userns != "host" and (spec.userns != "auto" or self.rootless)
        self.made: set[str] = set()  # directories that the skeleton has
        self.capabilities = DEFAULT_CAPABILITIES
        if spec.cap_add or spec.cap_drop:
            from pyminicon.capabilities import resolve

            self.capabilities = resolve(spec.cap_add, spec.cap_drop)

    def build(self) -> Plan:
        try:
            self._identity()
            self._namespaces()
            self._names()
            self._root()
            self._pseudo()
            self._volumes()
            self._files()
            self._privileges()
            self._execution()
        except BaseException:
            for fd in self.plan.rootfs.lock_fds:
                os.close(fd)
            raise
        self._uncover()
        self.fields["skeleton"] = self.skeleton
        # /sys last: it waits for the network namespace, which may be made beside all else.
        self.fields["mounts"] = self.mounts + self.sys_mounts
        return self.plan

    # ---- ids ----------------------------------------------------------------------------------------

    def _identity(self) -> None:
        spec, fields, config = self.spec, self.fields, self.plan.rootfs.config
        user = spec.user or (config.user if config and config.user else None)
        self.identity = users.resolve(user, self.plan.rootfs.read)
        if self.private_users:
            self._maps()
        elif self.rootless:
            raise SpecError("userns", "'host' needs root: only root may make namespaces without one")
        uid, gid = self.identity.uid, self.identity.gid
        if self.single_map:
            return
        inside = (0, 0) if self.private_users else (os.geteuid(), os.getegid())
        same = (uid, gid) == inside and (self.private_users or os.getresuid() == (0, 0, 0))
        fields["set_groups"] = True
        fields["groups"] = self.identity.groups
        fields["change_user"] = not same
        fields["uid"], fields["gid"] = uid, gid

    def _maps(self) -> None:
        """Which id maps, and who writes them: the child its own one id, the parent the rest."""
        ranges = self.ranges = self._ranges()
        fields = self.fields
        self.has_tty_group = ranges is not None and any(a <= 5 < a + n for a, _, n in ranges[1])
        if ranges is None:
            self.single_map = True
            fields["own_uid_map"] = f"{self.identity.uid} {os.geteuid()} 1\n"
            fields["own_gid_map"] = f"{self.identity.gid} {os.getegid()} 1\n"
            return
        fields["become_root"] = True
        for kind, table in zip(("uid", "gid"), ranges, strict=True):
            fields[f"{kind}_map"] = "".join(f"{a} {b} {n}\n" for a, b, n in table)
            if self.rootless:
                words = [str(number) for row in table for number in row]
                fields[f"{kind}_mapper"] = [f"/usr/bin/new{kind}map", *words]

    def _ranges(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] | None:
        userns = self.spec.userns
        if isinstance(userns, list):
            who = self.identity
            if self.rootless and userns == [(0, os.geteuid(), 1)] and (who.uid, who.gid) == (0, 0):
                return None  # the one map that needs no other's power
            if self.rootless and not _has_mappers():
                raise SpecError("userns", "ranges need newuidmap and newgidmap: install the package uidmap")
            return userns, userns
        if not self.rootless:
            start, count = users.subordinate_range("/etc/subuid") or (users.ROOT_RANGE, 65536)
            return [(0, start, count)], [(0, start, count)]
        if userns == "auto":
            return None
        uids, gids = (users.subordinate_range(f"/etc/sub{kind}") for kind in ("uid", "gid"))
        if uids is None or gids is None or not _has_mappers():
            return None
        return (
            [(0, os.geteuid(), 1), (1, uids[0], uids[1])],
            [(0, os.getegid(), 1), (1, gids[0], gids[1])],
        )

    # ---- namespaces and names -----------------------------------------------------------------------

    def _namespaces(self) -> None:
        spec, fields = self.spec, self.fields
        flags = _NEWNS
        flags |= _NEWUSER if self.private_users else 0
        flags |= _NEWPID if spec.pid == "private" else 0
        flags |= _NEWIPC if spec.ipc == "private" else 0
        flags |= _NEWUTS if spec.uts == "private" else 0
        flags |= _NEWCGROUP if spec.cgroupns == "private" else 0
        flags |= _NEWNET if spec.network == "none" else 0
        fields["namespaces"] = flags
        fields["loopback"] = spec.network == "none"
        fields["private_clock"] = spec.time == "private"
        fields["kill_by_cgroup"] = spec.pid == "host"
        fields["init"] = spec.init
        # A volume may be a FUSE or network file system that hangs: with memory of its own the child can
        # be waited for with a timeout and killed, where vfork would hold this thread.
        fields["own_memory"] = bool(spec.volumes)
        fields["hand_out"] = spec.collect is not None
        limits = self._limits()
        if limits is not None:
            from pyminicon import cgroups

            fields["cgroup"] = cgroups.plan(limits)
            fields["memory_limit"] = limits.memory or 0

    def _limits(self) -> Limits | None:
        """The limits that were asked for; whoever can mount without nodev is held off the devices as well."""
        limits = self.spec.limits
        if self.private_users or not self.capabilities >> _CAP_SYS_ADMIN & 1:
            return limits
        if limits is None:
            from pyminicon.cgroup_limits import check

            return check(need_devices=True)
        limits.devices = True
        return limits

    def _names(self) -> None:
        spec = self.spec
        if spec.uts == "host":
            if spec.hostname is not None:
                raise SpecError("hostname", "can't be set with uts='host'")
            self.hostname = os.uname().nodename
        else:
            self.hostname = spec.hostname or self.plan.id
            self.fields["hostname"] = self.hostname

    # ---- the root -----------------------------------------------------------------------------------

    def _root(self) -> None:
        spec, fields, root = self.spec, self.fields, self.plan.rootfs
        fields["read_only"] = spec.read_only
        fields["allow_setuid"] = not spec.no_new_privileges
        kind, size = spec.storage
        if kind == "tmpfs" and self.private_users and not _tmpfs_can_be_a_layer():
            if size and not spec.read_only:
                raise SpecError(
                    "storage",
                    "a tmpfs can be the layer in a user namespace from Linux 6.6 on, and only a tmpfs has a size: use 'disk'",
                )
            kind = "disk"
        if kind == "disk" and not spec.read_only:
            from pyminicon.images.lookup import store_path

            fields["disk_parent"] = f"{store_path()}/scratch"
        else:
            fields["scratch_tmpfs"] = f"size={size or '512m'},mode=755,nr_inodes=1m"
        if self.private_users:
            fields["overlay_options"] = "userxattr"
        if root.layers:
            fields["root"] = ops.ROOT_COVER if spec.read_only else ops.ROOT_OVERLAY
            fields["layers"] = root.layers
        else:
            fields["root"] = ops.ROOT_SCRATCH
            self._assemble()
        for name in ("proc", "sys", "dev"):
            self._directory(name)
        self._etc()

    def _uncover(self) -> None:
        """A read-only root of one directory that has all mount points is bound, and the few files bound over
        its own: an overlay to cover it with would cost more than all that."""
        fields, layers = self.fields, self.plan.rootfs.layers
        if fields["root"] != ops.ROOT_COVER or len(layers) != 1 or self.private_users:
            return
        # Landlock's rule would be about that very directory: the caller's own program may not lie in it.
        image = self.plan.rootfs.about or os.stat(layers[0])
        if (image.st_dev, image.st_ino) in _above_own_program():
            return
        files = []
        for kind, _, _, target, *_ in self.skeleton:
            path = os.fsdecode(target or "")
            found = self.plan.rootfs.entry(path)
            wanted = {ops.DIR: 0o040000, ops.FILE: 0o100000}.get(kind)
            if found is None or found.st_mode & 0o170000 != wanted:
                return
            if kind == ops.FILE:
                files.append(path)
        fields["root"] = ops.ROOT_BIND
        self.mounts[:0] = [op(ops.BIND_LAYER, path, path, flags=ops.RO) for path in files]

    def _directory(self, path: str, mode: int = 0o755) -> bool:
        """Sees to it that the directory ``path`` is in the root, with the attributes the image gives it.

        False where something else, a link say, lies there: the mount will say so.
        """
        if path in self.made or not path:
            return True
        parent = path.rpartition("/")[0]
        found = self.plan.rootfs.entry(path)
        if found is None:
            if not self._directory_in_layer(parent):
                return False
            self.skeleton.append(op(ops.DIR, path, mode=mode))
            self.made.add(path)
        return found is None or (found.st_mode & 0o170000) == 0o040000

    def _directory_in_layer(self, path: str) -> bool:
        """The same, in the private layer itself, to put something below it there."""
        if path in self.made or not path:
            return True
        if not self._directory_in_layer(path.rpartition("/")[0]):
            return False
        found = self.plan.rootfs.entry(path)
        if found is None:
            self.skeleton.append(op(ops.DIR, path))
        elif (found.st_mode & 0o170000) == 0o040000:
            # The upper directory's attributes are what is seen of a merged one. An owner that has no
            # name in a private user namespace stays what the set-up runs as.
            owner = (0, 0) if self.private_users else (found.st_uid, found.st_gid)
            self.skeleton.append(op(ops.DIR, path, mode=found.st_mode & 0o7777, uid=owner[0], gid=owner[1]))
        else:
            return False
        self.made.add(path)
        return True

    def _assemble(self) -> None:
        """The host image: this machine's programs, none of its data."""
        from pyminicon import host_etc

        for name, target in rootfs.system_links():
            self.skeleton.append(op(ops.SYMLINK, name, source=target))
        # An interpreter that lives below /root must be reachable for every user of the container.
        private = not any(tree.startswith("/root/") for tree in self.plan.rootfs.trees)
        home = 0o700 if private else 0o755
        for name, mode in (("tmp", 0o1777), ("root", home), ("home", 0o755), ("run", 0o755)):
            self._directory(name, mode)
        for name, mode in (("var", 0o755), ("var/tmp", 0o1777), ("var/log", 0o755), ("var/lib", 0o755)):
            self._directory(name, mode)
        for name in ("etc", "opt", "mnt", "srv", "var/cache"):
            self._directory(name)
        self.skeleton.append(op(ops.SYMLINK, "var/run", source="/run"))
        for tree in self.plan.rootfs.trees:
            self._tree(tree)
        for name, link, data, mode in host_etc.entries():
            if link is not None:
                self.skeleton.append(op(ops.SYMLINK, f"etc/{name}", source=link))
            else:
                self.skeleton.append(op(ops.FILE, f"etc/{name}", data=data, mode=mode))
        for name in host_etc.trees():
            self._tree(f"/etc/{name}")

    def _tree(self, path: str) -> None:
        """A directory of this machine at its own path: below a private layer, or read-only."""
        target = path[1:]
        self._directory_in_layer(target)
        if self.spec.read_only:
            self.mounts.append(op(ops.BIND, target, path, flags=ops.RO | ops.RECURSIVE | self._setuid()))
        else:
            self.mounts.append(op(ops.OVERLAY, target, path, f"o{len(self.mounts)}", self._setuid()))

    def _setuid(self) -> int:
        return 0 if self.spec.no_new_privileges else ops.SETUID

    def _etc(self) -> None:
        """hosts, hostname and, for the host's network, what resolves there."""
        texts = {"etc/hostname": f"{self.hostname}\n".encode()}
        if self.spec.network == "host":
            texts["etc/hosts"] = _read_host("/etc/hosts") or _hosts(self.hostname)
            texts["etc/resolv.conf"] = _read_host("/etc/resolv.conf") or b""
        else:
            texts["etc/hosts"] = _hosts(self.hostname)
        for path, data in texts.items():
            self._put(path, data, 0o644)

    def _put(self, path: str, data: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
        """A file in the private layer: before the root is mounted where the image's way there is plain
        directories, else through the mounted root. It hides what the image has there, links too."""
        row = op(ops.FILE, path, data=data, mode=mode, uid=uid, gid=gid)
        if self._directory_in_layer(path.rpartition("/")[0]):
            self.skeleton = [made for made in self.skeleton if made[3] != path]
            self.skeleton.append(row)
        else:
            self.mounts.append(row)

    # ---- mounts -------------------------------------------------------------------------------------

    def _pseudo(self) -> None:
        spec, mounts = self.spec, self.mounts
        own = ops.NO_SYMLINK
        no_proc = self.private_users and spec.pid == "host"
        no_sys = self.private_users and spec.network == "host"
        bind = ops.HOST_BIND | ops.RECURSIVE
        mounts.append(op(ops.PROC, "proc", "/proc", flags=own | ops.NO_EXEC | (bind if no_proc else 0)))
        # A message queue file system belongs to its IPC namespace's user namespace: the host's is refused.
        queue = 0 if self.private_users and spec.ipc == "host" else ops.MQUEUE
        dev = own | queue | (ops.BIND_NODES if self.private_users else 0)
        dev |= ops.CONSOLE_TARGET if spec.tty else 0
        # devpts takes only a group that has a name in the user namespace.
        tty_group = ",gid=5" if self.has_tty_group else ""
        mounts.append(
            op(ops.DEV, "dev", f"ptmxmode=0666,mode=0620{tty_group}", "size=64m,mode=1777,nr_inodes=64k", dev)
        )
        if spec.ipc == "host":
            mounts.append(op(ops.BIND, "dev/shm", "/dev/shm", flags=ops.RECURSIVE))
        if spec.tty:
            mounts.append(op(ops.CONSOLE, "dev/console", _terminal_name(spec.stdin)))
        mounts += [op(ops.MASK_FILE, path) for path in _present(_MASKED_FILES)]
        mounts += [op(ops.MASK_DIR, path) for path in _present(_MASKED_PROC)]
        mounts += [op(ops.READ_ONLY, path) for path in _present(_READ_ONLY)]
        sys_flags = own | ops.RO | ops.NO_EXEC | (bind if no_sys else 0)
        self.sys_mounts.append(op(ops.SYSFS, "sys", "/sys", flags=sys_flags))
        if self.fields.get("cgroup") is not None:
            self.sys_mounts.append(op(ops.CGROUP, "sys/fs/cgroup", flags=ops.RO | ops.IF_TARGET))
        masked = _present(_MASKED_SYS + _thermal_throttles())
        self.sys_mounts += [op(ops.MASK_DIR, path) for path in masked]

    def _mount(self, row: Op) -> None:
        """In its order, what lies in /sys after that."""
        target = os.fsdecode(row[3] or "")
        (self.sys_mounts if target == "sys" or target.startswith("sys/") else self.mounts).append(row)

    def _volumes(self) -> None:
        """Volumes and tmpfs, the outer before the inner, else in the user's order."""
        spec = self.spec
        flags = ops.MAKE_TARGET if not spec.read_only else 0
        wanted: list[tuple[int, Op]] = []
        for target, options, noexec in spec.tmpfs:
            mount = op(ops.TMPFS, target[1:], None, options, flags | (ops.NO_EXEC if noexec else 0))
            wanted.append((target.count("/"), mount))
            if spec.read_only:
                self._directory(target[1:])
        for source, target, mode in spec.volumes:
            extra = ops.RECURSIVE | (ops.RO if mode == "ro" else 0)
            wanted.append((target.count("/"), op(ops.BIND, target[1:], source, flags=flags | extra)))
            if spec.read_only:
                self._cover_volume(source, target[1:])
        config = self.plan.rootfs.config
        if config is not None:
            taken = {row[0][1:] for row in spec.tmpfs} | {row[1][1:] for row in spec.volumes}
            paths = {os.path.normpath(path).strip("/") for path in config.volumes}
            wanted += [row for path in sorted(paths - taken) for row in self._image_volume(path)]
        for _, mount in sorted(wanted, key=lambda row: row[0]):
            self._mount(mount)
        if config is not None and config.workdir and spec.cwd is None:
            path = os.path.normpath(f"/{config.workdir}").strip("/")
            # Below a mount, or behind a link of the image, it can only be made when that is there.
            if any(path.startswith(f"{at}/") for at in taken | paths) or not self._directory(path):
                self._mount(op(ops.DIR, path))

    def _image_volume(self, path: str) -> list[tuple[int, Op]]:
        """A directory that the image wants to write to: in memory where nothing else is writable."""
        depth = path.count("/") + 1
        if not self._directory(path):
            return [] if self.spec.read_only else [(depth, op(ops.DIR, path))]
        if not self.spec.read_only or not path:
            return []
        found = self.plan.rootfs.entry(path)
        options = f"mode={found.st_mode & 0o7777:o}" if found else "mode=755"
        # An ordinary user's images belong to him alone, whoever he is inside.
        if found and not self.rootless and self._has_name(found.st_uid, found.st_gid):
            options += f",uid={found.st_uid},gid={found.st_gid}"
        return [(depth, op(ops.TMPFS, path, None, f"{options},nr_inodes=1m"))]

    def _has_name(self, *ids: int) -> bool:
        """Whether a uid and a gid exist inside."""
        return self.ranges is None or all(
            any(a <= number < a + n for a, _, n in table)
            for number, table in zip(ids, self.ranges, strict=True)
        )

    def _cover_volume(self, source: str, target: str) -> None:
        """A read-only image can't be given a mount point later: it goes into the layer that covers it."""
        if self.plan.rootfs.entry(target) is not None:
            return
        if os.path.isdir(source):
            self._directory(target)
        elif self._directory_in_layer(target.rpartition("/")[0]):
            self.skeleton.append(op(ops.FILE, target, data=b"", mode=0o644))

    def _files(self) -> None:
        mounted = [
            row[3] for row in self.mounts + self.sys_mounts if row[0] in (ops.TMPFS, ops.BIND, ops.OVERLAY)
        ]
        uid, gid = (0, 0) if self.single_map else (self.identity.uid, self.identity.gid)
        for target, data, mode in self.spec.files:
            path = target[1:]
            # Below a mount it has to wait for the mount.
            late = any(isinstance(at, str) and path.startswith(at + "/") for at in mounted)
            found = self.plan.rootfs.entry(path)
            if path in self.made or (found is not None and (found.st_mode & 0o170000) == 0o040000):
                raise SpecError("files", f"{target} is a directory of the image")
            if late or not self.spec.read_only:
                self._mount(op(ops.FILE, path, data=data, mode=mode, uid=uid, gid=gid))
            else:
                self._put(path, data, mode, uid, gid)

    # ---- what it may, and what it runs --------------------------------------------------------------

    def _privileges(self) -> None:
        spec, fields = self.spec, self.fields
        capabilities = fields["capabilities"] = self.capabilities
        fields["no_new_privs"] = spec.no_new_privileges
        plain = capabilities == DEFAULT_CAPABILITIES and spec.no_new_privileges
        if isinstance(spec.seccomp, str) and spec.seccomp == "default" and plain:
            fields["seccomp"] = True  # the program that was compiled with the core
        else:
            from pyminicon.seccomp import program_and_keys

            fields["seccomp"], fields["new_keyring"] = program_and_keys(
                spec.seccomp, capabilities, no_new_privs=spec.no_new_privileges
            )
        # Landlock needs no_new_privs and forbids all mounting for good: so does the default filter, unless
        # the container is given CAP_SYS_ADMIN.
        mounts = spec.seccomp != "default" or capabilities >> _CAP_SYS_ADMIN & 1
        fields["may_landlock"] = spec.no_new_privileges and not mounts
        fields["rlimits"] = spec.rlimits  # the core limit is set at the birth's beginning and stays

    def _execution(self) -> None:
        config = self.plan.rootfs.config
        environment = {"PATH": PATH, "HOME": self.identity.home, "TERM": "xterm", "HOSTNAME": self.hostname}
        if self.plan.rootfs.path:
            environment["PATH"] = ":".join([*self.plan.rootfs.path, PATH])
        if config is not None:
            for line in config.env:
                key, _, value = line.partition("=")
                environment[key] = value
            if config.stopsignal:
                from pyminicon.stop_signal import number

                self.plan.stop_signal = number(config.stopsignal)
        self.plan.environment = environment
        self.plan.entrypoint = self.spec.entrypoint
        self.plan.told = told = tell(self.plan, self.spec)
        self.fields["foreign_program"] = not self._only_host_programs(told[0])

    def _only_host_programs(self, names: list[str]) -> bool:
        """Whether what is run can only be a program of this machine's own trees.

        A script `#!/proc/self/exe`, or a link to it, runs the program that is being replaced
        (CVE-2019-5736). In borrowed memory that is the caller's interpreter, with whatever libraries the
        image has for it, so such a program is started under Landlock, or from memory of its own, where
        it is the helper, static and sealed against writing.
        """
        if self.plan.rootfs.layers or self.spec.files:
            return False
        trees = (*self.plan.rootfs.trees, "/bin", "/sbin")
        return all(
            "/../" not in name and any(name.startswith(f"{tree}/") for tree in trees) for name in names
        )


def tell(plan: Plan, spec: Spec) -> Told:
    """What a container of ``plan`` is told to execute for ``spec``. Raises SpecError."""
    config = plan.rootfs.config
    argv = list(spec.args)
    if plan.entrypoint is not None:
        argv = [*plan.entrypoint, *argv]
    elif config is not None:
        argv = [*(config.entrypoint or ()), *(argv or config.cmd or ())]
    if not argv:
        raise SpecError("args", "is empty: there is no program to run")
    environment = {**plan.environment, **spec.env} if spec.env else plan.environment
    return (
        candidates(argv[0], environment.get("PATH", "")),
        argv,
        [f"{key}={value}" for key, value in environment.items()],
        spec.cwd or (config.workdir if config and config.workdir else "/"),
    )


def candidates(program: str | bytes, path: str) -> list[str]:
    """Where execvpe(3) looks for ``program``, in order."""
    name = os.fsdecode(program)
    if "/" in name:
        return [name]
    return [f"{directory or '.'}/{name}" for directory in path.split(":")]


_above: frozenset[tuple[int, int]] | None = None


def _above_own_program() -> frozenset[tuple[int, int]]:
    """The directories that the running interpreter lies in, by device and inode: a bind mount is the same
    directory by another name, and the kernel's rule goes by what it is."""
    global _above
    if _above is None:
        path, found = os.path.realpath("/proc/self/exe"), set()
        while path != "/":
            path = os.path.dirname(path)
            about = os.stat(path)
            found.add((about.st_dev, about.st_ino))
        _above = frozenset(found)
    return _above


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


def _terminal_name(stdin: Any) -> str:
    try:
        return os.ttyname(stdin if isinstance(stdin, int) else stdin.fileno())
    except (AttributeError, OSError):
        raise SpecError("tty", "takes a terminal as stdin, one with a name in /dev/pts") from None


def _has_mappers() -> bool:
    return os.path.exists("/usr/bin/newuidmap") and os.path.exists("/usr/bin/newgidmap")


def _hosts(name: str) -> bytes:
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n".encode()


def _read_host(path: str) -> bytes | None:
    """A file of this machine, links followed: resolv.conf is one into /run wherever systemd is."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return None


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
