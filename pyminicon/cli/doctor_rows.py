"""What ``doctor`` tries, in order, with what is lost without it and what helps."""

from __future__ import annotations

import errno
import os

from pyminicon import _explain
from pyminicon.cli import doctor_tries as tries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Row:
    """One thing that was tried.

    ``mark``: "ok", "no" (missed by somebody) or "none" (not here, and `run` does without). ``seen``: what
    was found, or the kernel's answer. ``needed``: `run` can't work without it.
    """

    __slots__ = ("lost", "mark", "name", "needed", "remedy", "seen")

    def __init__(self, name: str, lost: str = "", remedy: str = "", *, needed: bool = False) -> None:
        self.name: str = name
        self.mark: str = "ok"
        self.seen: str = ""
        self.lost: str = lost
        self.remedy: str = remedy
        self.needed: bool = needed


def examine() -> list[Row]:
    """All rows, tried now."""
    rows = [_kernel()]
    for make in (_calls, _namespaces, _users, _roots, _cgroups, _protections):
        rows += make()
    rows += [_way_out(), _run()]
    return rows


def _tried(row: Row, work: Callable[[], str], missing: str = "no") -> Row:
    try:
        row.seen = work()
    except OSError as error:
        row.mark, row.seen = missing, error.strerror or str(error)
        hint = getattr(error, "hint", None)
        if hint:
            row.seen, row.remedy = str(error).removesuffix(f" ({hint})"), hint
        elif error.errno == errno.EPERM and missing == "no":
            row.remedy = _explain._clone(error.errno, "") or row.remedy
        elif error.errno == errno.ENOSYS:
            row.remedy = _explain.filtered() or row.remedy
    except ValueError as error:  # SpecError: refused before anything was tried
        row.mark, row.seen = missing, str(error)
    return row


def _child(row: Row, work: Callable[[], str], missing: str = "no") -> Row:
    return _tried(row, lambda: tries.in_child(work), missing)


def _box(row: Row, args: list[str], missing: str = "no", **options: Any) -> Row:
    """A row that is ok when a container with ``options`` runs ``args``."""

    def work() -> str:
        from pyminicon import run

        result = run(args, capture_output=True, timeout=20, **options)
        if result.returncode:
            raise OSError(5, f"the container ended with {result.returncode}")
        return str(os.fsdecode(result.stdout).strip())

    return _tried(row, work, missing)


def _kernel() -> Row:
    row = Row("kernel")
    row.seen = f"Linux {os.uname().release} {os.uname().machine}"
    return row


_OLD = "a kernel that has it: 5.12 or later"


def _calls() -> list[Row]:
    allow = f"{_OLD}; in a container, a seccomp profile that allows it"
    lost = "`run`: the launch is built on it"
    return [
        _child(Row("clone3", lost, allow, needed=True), tries.try_clone3),
        _child(Row("openat2", lost, allow, needed=True), tries.try_openat2),
        _child(Row("close_range", lost, allow, needed=True), tries.try_close_range),
        _child(Row("pidfd", lost, allow, needed=True), tries.try_pidfd),
        _child(Row("open_tree, mount_setattr", lost, allow, needed=True), tries.try_mount_calls),
        _child(
            Row(
                "id-mapped mounts",
                "owners of the files of volumes, with --userns private",
                "Linux 6.3, and root",
            ),
            tries.try_id_mapped_mount,
            "none",
        ),
        _child(
            Row("OPEN_TREE_NAMESPACE", "a start whose cost doesn't grow with the mounts", "Linux 7.0"),
            tries.try_tree_as_namespace,
            "none",
        ),
    ]


def _namespaces() -> list[Row]:
    rows = []
    missing = "a kernel with CONFIG_{0}; sysctl user.max_{1}_namespaces above 0"
    for name, flag, config, counter, lost in (
        ("mount", tries.NEWNS, "NAMESPACES", "mnt", "`run`"),
        ("pid", tries.NEWPID, "PID_NS", "pid", "`run`, but with --pid host and a cgroup"),
        ("ipc", tries.NEWIPC, "IPC_NS", "ipc", "`run`, but with --ipc host"),
        ("uts", tries.NEWUTS, "UTS_NS", "uts", "`run`, but with --uts host"),
        ("network", tries.NEWNET, "NET_NS", "net", "`run`, but with --network host"),
        ("cgroup", tries.NEWCGROUP, "CGROUPS", "cgroup", "`run`, but with --cgroupns host"),
    ):
        row = Row(f"{name} namespace", lost, missing.format(config, counter), needed=name == "mount")
        rows.append(_child(row, _namespace(flag)))
    time = Row("time namespace", "--time private", "Linux 5.6 or later with CONFIG_TIME_NS")
    rows.append(_box(time, ["cat", "/proc/uptime"], time="private"))
    if time.mark == "ok":
        time.seen = f"the clock inside began at {time.seen.split()[0]} s"
    return rows


def _namespace(flag: int) -> Callable[[], str]:
    return lambda: tries.try_namespace(flag)


def _users() -> list[Row]:
    rootless = os.geteuid() != 0
    forbidden = _explain._user_namespaces_forbidden() or "the kernel's log says who forbids it"
    lost = "`run` without root" if rootless else "--userns private, and `run` for ordinary users"
    users = Row("user namespace", lost, forbidden, needed=rootless)
    _child(users, tries.try_user_namespace)
    powers = Row("user namespace with powers", lost, forbidden, needed=rootless)
    _child(powers, tries.try_id_map)
    return [users, powers, _ranges(rootless)]


def _ranges(rootless: bool) -> Row:
    """More than one id: /etc/subuid and newuidmap for an ordinary user; root needs neither."""
    row = Row("ranges of ids", "--userns private with more than one id, and so -u with an id map of its own")
    row.remedy = (
        "install the package uidmap, and give yourself a range: usermod --add-subuids 100000-165535 "
        "--add-subgids 100000-165535 NAME"
        if rootless
        else "`run` must work, and user namespaces"
    )

    def work() -> str:
        from pyminicon import run
        from pyminicon.options import users

        line = run(["cat", "/proc/self/uid_map"], userns="private", capture_output=True, timeout=20).stdout
        rows = [[int(word) for word in row.split()] for row in line.decode().splitlines()]
        if sum(row[2] for row in rows) < 2:
            granted = users.subordinate_range("/etc/subuid") and users.subordinate_range("/etc/subgid")
            raise OSError(1, "newuidmap is missing" if granted else "none in /etc/subuid and /etc/subgid")
        return "inside, outside, count: " + ", ".join(" ".join(map(str, row)) for row in rows)

    return _tried(row, work)


def _roots() -> list[Row]:
    lost = "writable containers (--read-only ones work)"
    overlay = Row("overlayfs", lost, "modprobe overlay")
    rootless = Row(
        "overlayfs, rootless",
        "for ordinary users, removing and making anew a directory of the image",
        "Linux 6.6 or later, or --storage disk",
    )
    rows = [_child(rootless, tries.try_overlay_in_user_namespace)]
    if os.geteuid() == 0:
        rows.insert(0, _child(overlay, tries.try_overlay))
    rows.append(_box(Row("writable layer", lost, "--read-only"), ["touch", "/usr/x", "/x"]))
    rows.append(
        _box(
            Row(
                "writable layer on disk",
                "--storage disk",
                "a store on ext4, xfs or btrfs: PYMINICON_STORE=DIR",
            ),
            ["touch", "/usr/x"],
            storage="disk",
        )
    )
    return rows


_LIMITS = {'pid="host"': "--pid host, ended by its cgroup"}


def _cgroups() -> list[Row]:
    from pyminicon.cgroups import report as cgroup_report
    from pyminicon.cgroups import tree as cgroup_tree

    trees = cgroup_tree.trees()
    kind = "both" if trees.v1 and trees.v2 else "v1" if trees.v1 else "v2" if trees.v2 else ""
    version = Row("cgroups", "all limits but time and output", "mount -t cgroup2 none /sys/fs/cgroup")
    version.seen, version.mark = (kind, "ok") if kind else ("none mounted", "no")
    if trees.v1:
        version.seen += f" (v1: {' '.join(sorted(trees.v1))})"
    rows = [version, _place(trees)]
    delegate = "--cgroup-parent with a cgroup that has the controller"
    where = {line.name: line.where for line in cgroup_report.report()}
    for name, options in (
        ("memory", {"memory": "32M"}),
        ("cpus", {"cpus": 0.5}),
        ("cpuset", {"cpuset": _first_cpu()}),
        ("pids", {"pids": 16}),
        ("io_weight", {"io_weight": 50}),
        ("cpu_time", {"cpu_time": 60.0}),
        ('pid="host"', {"pid": "host"}),
    ):
        row = _box(
            Row(_LIMITS.get(name, f"limit: {name}"), f"the option {name}", delegate), ["true"], **options
        )
        if row.mark == "ok":
            row.seen = f"in {where[name]}" if where.get(name) else ""
        rows.append(row)
    rows.append(_into_cgroup(trees))
    return rows


def _place(trees: Any) -> Row:
    """Where limits are held; with v1 it is the caller's own cgroup in each tree."""
    row = Row("place of limits", "all limits but time and output", "docs/cgroups.md#place")
    if trees.v2 is None or trees.v1:
        row.seen = "below the caller's own cgroups"
        return row

    def work() -> str:
        from pyminicon.cgroups import place

        found = place.find(trees)
        return f"{found.how}: {found.directory}"

    return _tried(row, work)


def _first_cpu() -> str:
    return str(min(os.sched_getaffinity(0)))


def _into_cgroup(trees: Any) -> Row:
    row = Row("CLONE_INTO_CGROUP", "a start without a move into the cgroup, which waits after idle times",
              "cgroup v2, delegated to you")  # fmt: skip
    if trees.v2 is None:
        row.mark, row.seen = "none", "no cgroup v2 here"
        return row
    from pyminicon.cgroups import parent_directory

    def work() -> str:
        where = parent_directory(trees, trees.v2, None)
        if trees.place is not None and trees.place.away is not None:
            return "by a launcher of ours that lives in there"
        return tries.in_child(lambda: tries.try_into_cgroup(str(where)))

    return _tried(row, work, "none")


def _protections() -> list[Row]:
    seccomp = Row(
        "seccomp", "`run`, but with --security-opt seccomp=unconfined", "a kernel with CONFIG_SECCOMP_FILTER"
    )
    rows = [_child(seccomp, tries.try_seccomp)]
    rows.append(
        _tried(
            Row("seccomp profiles", "--security-opt seccomp=FILE, --cap-add", "install libseccomp2"),
            _own_filter,
        )
    )
    typing = Row("TIOCSTI", "", "sysctl dev.tty.legacy_tiocsti=0 (Linux 6.2 or later)")
    try:
        tries.in_child(tries.try_typing_into_a_terminal)
        typing.mark, typing.seen = (
            "none",
            "allowed: who holds a terminal can type in it; containers here never hold yours",
        )
    except OSError as error:
        typing.seen = f"refused ({error.strerror})"
    return [*rows, typing]


def _own_filter() -> str:
    from pyminicon.plan.build import DEFAULT_CAPABILITIES
    from pyminicon.seccomp import program

    made = program("default", DEFAULT_CAPABILITIES & ~1)
    return f"{len(made or b'') // 8} instructions"


def _way_out() -> Row:
    row = Row("pasta", "--network pasta: a way out without root", "install the package passt")
    _box(row, ["cat", "/proc/net/dev"], "none", network="pasta")
    if row.mark == "ok":
        names = [line.partition(":")[0].strip() for line in row.seen.splitlines() if ":" in line]
        row.seen = f"an interface inside: {' '.join(name for name in names if name != 'lo')}"
    return row


def _run() -> Row:
    row = Row("run", "everything", "what is marked NO above", needed=True)
    _box(row, ["echo", "a container ran"])
    return row
