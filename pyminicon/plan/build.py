"""From a checked Spec to the core's launch plan: every decision is made here, before anything runs.

The order of the birth itself is the core's (csrc/child/birth/birth.cc); what the user orders is only the
list of mounts. What a plain run doesn't need has rooms of its own (beside this module) and is loaded when it is asked for.
"""

from __future__ import annotations

import os

from pyminicon import _core
from pyminicon import plan as ops
from pyminicon.errors import LaunchError, SpecError, not_loaded
from pyminicon.options import LIVES
from pyminicon.plan import Draft, Plan, Tree, rootfs
from pyminicon.plan import tree as plan_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyminicon.cgroups.limits import Limits
    from pyminicon.options import Spec
    from pyminicon.plan import ExecSpec

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: docker's fourteen, as a mask by the kernel's numbers; capabilities.DEFAULT_MASK is held to it by a test.
DEFAULT_CAPABILITIES = 0xA80425FB
_CAP_SYS_PTRACE, _CAP_SYS_ADMIN = 19, 21


def build(spec: Spec, once: bool = False, dry: bool = False) -> Plan:
    """The plan for ``spec``; ``once``: for one container alone; ``dry``: to be looked at, nothing is imported, swept
    or enabled for it. Raises SpecError or LaunchError with nothing started."""
    try:
        return _Builder(spec, once, dry).build()
    except ImportError as error:
        raise not_loaded(error) from error


def _check_barrier(mounts: bool) -> None:
    """A program with SYS_PTRACE would take its init over, and is kept off it by a domain of Landlock (5.19). Until
    6.12 that is at the price of all mounting."""
    from pyminicon._core import landlock_version

    version = landlock_version()
    if version < 2 or (mounts and version < 6):
        need = "Linux 6.12" if mounts else "Landlock (Linux 5.19)"
        raise SpecError(
            "init", f"with SYS_PTRACE a program could take its init over; to prevent it takes {need}"
        )


class _Builder(Draft):
    """The chapters that make a plan, one after the other."""

    def __init__(self, spec: Spec, once: bool, dry: bool = False) -> None:
        self.spec = spec
        self.once = once
        self.dry = dry
        self.plan = Plan(rootfs.find(spec.image, dry), os.urandom(6).hex())
        self.fields = self.plan.fields
        self.rootless = os.geteuid() != 0 or not _core.is_root()  # uid 0 may be no more than a name
        self.private_users = spec.userns != "host" and (spec.userns != "auto" or self.rootless)
        self.uid = self.gid = 0
        self.groups: list[int] = []
        self.home = "/root"
        self.ranges = None
        self.single_map = False  # one id is mapped and the child writes the map itself
        self.has_tty_group = True
        self.tree = Tree(self.plan.rootfs, self.private_users)
        self.capabilities = self.filtered_by = DEFAULT_CAPABILITIES
        if spec.cap_add or spec.cap_drop:
            from pyminicon.options.capabilities import for_filter, resolve

            self.capabilities = resolve(spec.cap_add, spec.cap_drop)
            self.filtered_by = for_filter(self.capabilities, spec.cap_add)
        if spec.network == "off":
            from pyminicon.options.capabilities import without_network

            self.capabilities = without_network(self.capabilities, spec.cap_add)

    def build(self) -> Plan:
        try:
            self._identity()
            self._namespaces()
            self._settings()
            self._names()
            self._root()
            self._volumes()
            self._privileges()
            self._execution()
        except BaseException:
            for fd in self.plan.rootfs.lock_fds:
                os.close(fd)
            raise
        self._uncover()
        if self.plan.rootfs.top:
            self.tree.give_top(self.plan.rootfs.top)
        self.fields["skeleton"] = self.tree.skeleton
        # /sys last: it waits for the network namespace, which may be made beside all else.
        self.fields["mounts"] = self.tree.mounts + self.tree.sys_mounts
        return self.plan

    # ---- ids ----------------------------------------------------------------------------------------

    def _identity(self) -> None:
        spec, fields, config = self.spec, self.fields, self.plan.rootfs.config
        user = spec.user or (config.user if config and config.user else None)
        if user is not None or spec.group is not None or spec.extra_groups:
            from pyminicon.options import users

            who = users.resolve_all(user, spec.group, spec.extra_groups, self.plan.rootfs.read)
            self.uid, self.gid, self.groups, self.home = who.uid, who.gid, who.groups, who.home
        if self.private_users and os.geteuid() != 0 and spec.userns == "auto":
            self.map_own_id()
        elif self.private_users:
            from pyminicon.plan import id_maps as plan_ids

            plan_ids.map_ranges(self)
        elif os.geteuid() != 0:
            raise SpecError("userns", "'host' needs root: only root may make namespaces without one")
        if self.single_map:
            if spec.extra_groups:
                raise SpecError(
                    "extra_groups", "takes root, or ranges in /etc/subgid: one id alone has no groups"
                )
            return
        inside = (0, 0) if self.private_users else (os.geteuid(), os.getegid())
        same = (self.uid, self.gid) == inside and (self.private_users or os.getresuid() == (0, 0, 0))
        fields["set_groups"] = True
        # The primary one among them, as login(1) has it: a set-gid program leaves it for another, and what it
        # was denied as that group's member it could reach then (CVE-2022-36109).
        fields["groups"] = [self.gid, *self.groups]
        fields["change_user"] = not same
        fields["uid"], fields["gid"] = self.uid, self.gid

    # ---- namespaces and names -----------------------------------------------------------------------

    def _namespaces(self) -> None:
        spec, fields = self.spec, self.fields
        flags = _NEWNS
        flags |= _NEWUSER if self.private_users else 0
        flags |= _NEWPID if spec.pid == "private" else 0
        flags |= _NEWIPC if spec.ipc == "private" else 0
        flags |= _NEWUTS if spec.uts == "private" else 0
        flags |= _NEWCGROUP if spec.cgroupns == "private" else 0
        flags |= _NEWNET if spec.network != "host" else 0
        fields["namespaces"] = flags
        fields["loopback"] = spec.network in ("none", "pasta")
        fields["only_unix_sockets"] = spec.network == "off"
        fields["private_clock"] = spec.time == "private"
        fields["kill_by_cgroup"] = spec.pid == "host"
        fields["init"] = spec.init
        # A volume may be a FUSE or network file system that hangs: with memory of its own the child can
        # be waited for with a timeout and killed, where vfork would hold this thread.
        # A child that waits for pasta likewise.
        fields["separate_memory"] = bool(spec.volumes) or spec.network == "pasta"
        # Commands are found their users in the root.
        fields["hand_out"] = spec.collect is not None or spec.init
        limits = self._limits()
        if limits is not None:
            from pyminicon import cgroups

            fields["cgroup"] = cgroups.plan(limits, self.dry)
            fields["memory_limit"] = limits.memory or 0

    def _settings(self) -> None:
        """Of its own network: docker's two, so that port 80 and ping work for any user inside, then what was asked for."""
        usual: list[tuple[str, str, bool]] = []
        if self.spec.network in ("none", "pasta"):
            groups = _core.ALL_GROUPS
            if self.single_map:
                groups = f"{self.gid} {self.gid}"
            elif self.private_users or self.rootless:
                from pyminicon.plan import id_maps as plan_ids

                groups = plan_ids.mapped_groups(self)
            self.fields["usual_settings"] = groups == _core.ALL_GROUPS
            usual = [
                ("net.ipv4.ip_unprivileged_port_start", "0", True),
                ("net.ipv4.ping_group_range", groups, True),
            ]
        self.fields["sysctls"] = usual + [(name, value, False) for name, value in self.spec.sysctls]

    def _limits(self) -> Limits | None:
        """The limits that were asked for; whoever can mount without nodev is held off the devices as well."""
        limits = self.spec.limits
        may_mount = bool(self.capabilities >> _CAP_SYS_ADMIN & 1)
        if limits is not None:
            # Our filter lets nobody make a user namespace, in which he could mount as well.
            limits.apart = may_mount or self.spec.seccomp != "default"
        if self.private_users or not may_mount:
            return limits
        if limits is None:
            from pyminicon.cgroups.limits import check

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
            if spec.hostname:
                self.fields["hostname"] = spec.hostname
            else:
                self.fields["hostname_is_id"] = True

    # ---- the root -----------------------------------------------------------------------------------

    def _root(self) -> None:
        spec, fields, layers = self.spec, self.fields, self.plan.rootfs.layers
        plan_tree.choose_storage(self)
        fields["read_only"] = spec.read_only
        fields["allow_setuid"] = not spec.no_new_privileges
        if layers:
            fields["root"] = ops.ROOT_COVER if spec.read_only else ops.ROOT_OVERLAY
            fields["layers"] = layers
        else:
            from pyminicon.plan import host as plan_host

            fields["root"] = ops.ROOT_SCRATCH
            plan_host.assemble(self)
        for name in ("proc", "sys", "dev"):
            self.tree.directory(name)
        plan_tree.put_names(self)
        if self.rootless and layers and not spec.read_only:
            plan_tree.own_what_anybody_writes(self)
        plan_tree.mount_kernels(self)

    def _volumes(self) -> None:
        spec = self.spec
        if spec.volumes or spec.tmpfs or spec.files or spec.make_cwd or self.plan.rootfs.config is not None:
            from pyminicon.plan import volumes as plan_volumes

            plan_volumes.mount(self)
            plan_volumes.put_files(self)

    def _uncover(self) -> None:
        one_layer = len(self.plan.rootfs.layers) == 1
        if self.fields["root"] == ops.ROOT_COVER and one_layer and not self.private_users:
            from pyminicon.plan import read_only as plan_read_only

            plan_read_only.uncover(self)

    # ---- what it may, and what it runs --------------------------------------------------------------

    def _privileges(self) -> None:
        spec, fields = self.spec, self.fields
        capabilities = fields["capabilities"] = self.capabilities
        fields["no_new_privs"] = spec.no_new_privileges
        plain = self.filtered_by == DEFAULT_CAPABILITIES and spec.no_new_privileges
        if isinstance(spec.seccomp, str) and spec.seccomp == "default" and plain:
            fields["seccomp"] = True  # the program that was compiled with the core
        else:
            from pyminicon.seccomp import program_and_keys

            fields["own_seccomp"] = spec.seccomp != "default"
            fields["seccomp"], fields["new_keyring"] = program_and_keys(
                spec.seccomp, self.filtered_by, no_new_privs=spec.no_new_privileges
            )
            self._filter_init()
        # Landlock needs no_new_privs and forbids all mounting for good: so does the default filter, unless
        # the container is given CAP_SYS_ADMIN.
        mounts = spec.seccomp != "default" or capabilities >> _CAP_SYS_ADMIN & 1
        fields["may_landlock"] = spec.no_new_privileges and not mounts
        fields["umask"] = spec.umask
        fields["init_barrier"] = spec.init and bool(capabilities >> _CAP_SYS_PTRACE & 1)
        if fields["init_barrier"]:
            _check_barrier(bool(mounts))
        fields["rlimits"] = spec.rlimits  # the core limit is set at the birth's beginning and stays

    def _filter_init(self) -> None:
        spec, fields = self.spec, self.fields
        if not (spec.init and fields["own_seccomp"] and fields["seccomp"]):
            return
        if spec.no_new_privileges:
            from pyminicon.seccomp import init_filter

            fields["init_seccomp"] = init_filter.program(spec.seccomp, self.filtered_by)
        elif spec.args is LIVES and not self.private_users:
            # Init itself would have to live under it: no command has the right to load one.
            raise SpecError("seccomp", 'without args and no_new_privileges a profile takes userns="private"')

    def _execution(self) -> None:
        config = self.plan.rootfs.config
        environment = {"PATH": PATH, "HOME": self.home, "TERM": "xterm", "HOSTNAME": self.hostname}
        if self.plan.rootfs.path:
            environment["PATH"] = ":".join([*self.plan.rootfs.path, PATH])
        if config is not None:
            for line in config.env:
                key, _, value = line.partition("=")
                environment[key] = value
            if config.stopsignal:
                from pyminicon.options.stop_signal import number

                self.plan.stop_signal = number(config.stopsignal)
        if self.spec.stop_signal is not None:
            self.plan.stop_signal = self.spec.stop_signal
        self.plan.environment = environment
        self.plan.entrypoint = self.spec.entrypoint
        self.plan.exec_spec = exec_spec = exec_spec_of(self.plan, self.spec)
        self.fields["foreign_program"] = self._is_foreign(exec_spec[0])

    def _is_foreign(self, names: list[str]) -> bool:
        """Whether what is run can be another program than one of this machine's own trees.

        A script `#!/proc/self/exe`, or a link to it, runs the program that is being replaced (CVE-2019-5736).
        In borrowed memory that is the caller's interpreter, with whatever libraries the image has for it, so such
        a program is started under Landlock, or from memory of its own, where it is the helper, static and sealed.
        """
        if self.plan.rootfs.layers or self.spec.files:
            return True
        from pyminicon.plan import host as plan_host

        return not plan_host.has_all(self.plan.rootfs.trees, names)


def exec_spec_of(plan: Plan, spec: Spec) -> ExecSpec:
    """What a container of ``plan`` is told to execute for ``spec``. Raises SpecError."""
    config = plan.rootfs.config
    environment = {**plan.environment, **spec.env} if spec.env else plan.environment
    words = [f"{key}={value}" for key, value in environment.items()]
    directory = spec.cwd or (config.workdir if config and config.workdir else "/")
    if spec.args is LIVES:
        return [], [], words, directory
    argv = list(spec.args)
    if plan.entrypoint is not None:
        argv = [*plan.entrypoint, *argv]
    elif config is not None:
        argv = [*(config.entrypoint or ()), *(argv or config.cmd or ())]
    if not argv:
        raise SpecError("args", "is empty: there is no program to run")
    program = spec.executable or argv[0]
    if not program:  # as execvp(3) answers: a name like any other that isn't there
        raise LaunchError(2, "exec", "", "the program's name is empty")
    return candidates(program, environment.get("PATH", "")), argv, words, directory


def candidates(program: str | bytes, path: str) -> list[str]:
    """Where execvpe(3) looks for ``program``, in order."""
    name = os.fsdecode(program)
    if "/" in name:
        return [name]
    return [f"{directory or '.'}/{name}" for directory in path.split(":")]
