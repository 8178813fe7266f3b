"""From limits to cgroups: ranges, the trees of many kinds of machines, names and sweeping.

The trees here are directories with plain files; what the kernel does with real ones is shown in
tests/cpp/cgroup_test.cc and tests/container/test_limits.py.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyminicon import cgroups
from pyminicon.cgroups import files as cgroup_files
from pyminicon.cgroups import limits as cgroup_limits
from pyminicon.cgroups import report as cgroup_report
from pyminicon.cgroups import sweep as cgroup_sweep
from pyminicon.cgroups import tree as cgroup_tree
from pyminicon.cgroups import v2 as cgroup_v2
from pyminicon.cgroups.tree import Tree, Trees
from pyminicon.errors import LaunchError, SpecError

Machine = Callable[..., Trees]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Puts up trees below tmp_path: machine(v1=["memory"], v2=["cpu"], caller="/own", root=False)."""

    def build(
        v1: Sequence[str] = (), v2: Sequence[str] | None = None, caller: str = "/own", root: bool = False
    ) -> Trees:
        found = Trees(os.getpid())
        for controller in v1:
            mount = tmp_path / controller
            cgroup(mount / caller.strip("/"), v1=True)
            cgroup(mount, v1=True)
            found.v1["io" if controller == "blkio" else controller] = Tree(
                str(mount), "/", caller, [controller], False
            )
        if v2 is not None:
            mount = tmp_path / "unified"
            cgroup(mount, controllers=v2, root=True)
            if caller != "/":
                cgroup(mount / caller.strip("/"), controllers=v2, procs="4711\n")
            if root:
                (mount / "cgroup.procs").write_text("4711\n")
            found.v2 = Tree(str(mount), "/", caller, [], True)
        monkeypatch.setattr(cgroup_tree, "_found", found)
        monkeypatch.setattr(cgroup_tree, "systemd_runs", lambda: False)
        return found

    return build


def cgroup(
    path: Path, controllers: Sequence[str] = (), procs: str = "", v1: bool = False, root: bool = False
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.procs").write_text(procs)
    if not v1:
        (path / "cgroup.controllers").write_text(" ".join(controllers) + "\n")
        (path / "cgroup.subtree_control").write_text("")
        if not root:
            (path / "cgroup.type").write_text("domain\n")
    return path


def made(limits: cgroups.Limits | None) -> tuple[list[tuple[str, int, bool]], list[tuple[str, str]]]:
    """A plan as ([(directory's name, roles, required)], [(file, value)])."""
    plan = cgroups.plan(limits)
    assert plan is not None
    directories = [(name.decode(), roles, required) for _, name, roles, required in plan[1]]
    return directories, [(file.decode(), value.decode()) for _, file, value, _ in plan[2]]


# Ranges


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("memory", "0", "4K to "),
        ("memory", "-1", "4K to "),
        ("memory", "12Q", "4K to "),
        ("memory", "1000T", "this machine's memory"),
        ("memory", 64.0, "4K to "),
        ("cpus", 0, "0.01 to "),
        ("cpus", 0.009, "0.01 to "),
        ("cpus", 100_000, "0.01 to "),
        ("cpus", float("nan"), "0.01 to "),
        ("cpus", float("inf"), "0.01 to "),
        ("cpus", -1, "0.01 to "),
        ("cpus", True, "0.01 to "),
        ("cpus", "1", "0.01 to "),
        ("cpuset", "", "out of 0"),
        ("cpuset", "99999", "out of 0"),
        ("cpuset", "1-0", "out of 0"),
        ("cpuset", "0-", "out of 0"),
        ("cpuset", "a", "out of 0"),
        ("cpuset", "0\n0", "out of 0"),
        ("cpuset", "0-9999999999", "out of 0"),
        ("cpuset", 0, "out of 0"),
        ("pids", 0, "1 to 4194304"),
        ("pids", -1, "1 to 4194304"),
        ("pids", True, "1 to 4194304"),
        ("pids", 1.0, "1 to 4194304"),
        ("pids", "32", "1 to 4194304"),
        ("pids", 4194305, "1 to 4194304"),
        ("cpu_weight", 0, "1 to 10000"),
        ("cpu_weight", 10001, "1 to 10000"),
        ("io_weight", 0, "1 to 10000"),
        ("io_weight", 10001, "1 to 10000"),
        ("cgroup_parent", "", "path of a cgroup"),
        ("cgroup_parent", "a\0b", "path of a cgroup"),
        ("cgroup_parent", 7, "path of a cgroup"),
        ("memory_swap", "64M", "memory="),
    ],
)
def test_a_bad_limit_is_refused_with_its_range(option: str, value: Any, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        cgroups.check(**{option: value})
    assert caught.value.option == option
    assert says in str(caught.value)


def test_swap_is_on_top_of_memory() -> None:
    def swap(value: int | str | None) -> int | None:
        limits = cgroups.check(memory="64M", memory_swap=value)
        assert limits is not None
        return limits.swap

    assert (swap(None), swap("64M"), swap("96M"), swap("-1"), swap(-1)) == (None, 0, 32 << 20, -1, -1)
    for bad in ("63M", "-2", -2, "0", "", 1.5):
        with pytest.raises(SpecError, match="memory_swap: takes"):
            swap(bad)  # type: ignore[arg-type]


def test_without_limits_there_is_nothing_to_make() -> None:
    assert cgroups.check() is None
    assert cgroups.plan(None) is None


def test_a_limit_above_that_of_the_callers_own_cgroup_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine(v1=["memory"])
    (tmp_path / "memory/own/memory.stat").write_text("cache 0\nhierarchical_memory_limit 8388608\n")
    assert cgroups.check(memory="8M") is not None
    with pytest.raises(SpecError, match=r"4K to 8M \(the limit of the caller's own cgroup\)"):
        cgroups.check(memory="9M")
    (tmp_path / "memory/own/memory.stat").write_text("cache 0\nhierarchical_memory_limit 16777216\n")
    assert cgroups.check(memory="9M") is not None  # read again before it refuses


def test_the_least_limit_on_the_way_up_counts_on_v2(machine: Machine, tmp_path: Path) -> None:
    found = machine(v2=["memory"], caller="/a/b")
    (tmp_path / "unified/a/b/memory.max").write_text("max\n")
    assert found.v2 is not None
    assert cgroup_tree.memory_limit(found.v2) is None
    (tmp_path / "unified/a/memory.max").write_text("8388608\n")
    assert cgroup_tree.memory_limit(found.v2) == 8388608


def test_a_quota_above_the_callers_own_is_refused_on_v1(machine: Machine, tmp_path: Path) -> None:
    machine(v1=["cpu"])
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    assert cgroups.check(cpus=0.5) is not None
    with pytest.raises(SpecError, match=r"cpus: takes a number from 0\.01 to 0\.5, not 0\.75"):
        cgroups.check(cpus=0.75)


# Conversions


def test_normal_weights_stay_normal() -> None:
    assert cgroup_files.cpu_shares(100) == 1024
    assert cgroup_files.bfq_weight(100) == 100


def test_weights_stay_in_the_kernels_range_and_in_order() -> None:
    shares = [cgroup_files.cpu_shares(weight) for weight in range(1, 10_001)]
    assert shares == sorted(shares) and shares[0] >= 2 and shares[-1] <= 262_144
    bfq = [cgroup_files.bfq_weight(weight) for weight in range(1, 10_001)]
    assert bfq == sorted(bfq) and (bfq[0], bfq[-1]) == (1, 1000)


def test_cpu_lists_are_put_in_order() -> None:
    assert cgroup_limits.parse_cpus("3,0-1,1\n") == [0, 1, 3]
    assert cgroup_limits.form_cpus([0, 1, 3, 4, 5, 9]) == "0-1,3-5,9"


# Which directories and files


def test_on_v1_each_limit_goes_to_its_own_tree_and_no_more_are_made(machine: Machine) -> None:
    machine(v1=["memory", "cpu", "cpuacct", "pids", "blkio", "freezer"], v2=[])
    assert made(cgroups.check(pids=32)) == ([("pids", cgroups.PIDS, True)], [("pids.max", "32")])
    directories, writes = made(cgroups.check(memory="64M", cpus=0.5, cpu_weight=50))
    # And one that no limit needs, without which the JVM sees none of them.
    clock = ("cpuacct", cgroups.CPU_TIME, False)
    assert directories == [("cpu", cgroups.CPU, True), ("memory", cgroups.MEMORY, True), clock]
    assert ("cpu.cfs_quota_us", "50000") in writes
    assert ("cpu.shares", "512") in writes
    assert ("memory.limit_in_bytes", "67108864") in writes


def test_a_named_cgroup_is_joined_wherever_it_is(machine: Machine, tmp_path: Path) -> None:
    machine(v1=["memory", "cpu", "cpuset", "pids", "devices", "freezer"], v2=[])
    for name in ("memory", "cpuset", "devices", "freezer"):
        cgroup(tmp_path / name / "jobs", v1=True)
    for file in ("cpus", "mems"):
        (tmp_path / "cpuset/jobs" / f"cpuset.{file}").write_text("0\n")
    directories, writes = made(cgroups.check(cgroup_parent="/jobs"))
    roles = {"memory": cgroups.MEMORY, "cpuset": cgroups.CPUSET, "devices": 0, "freezer": cgroups.FREEZER}
    assert {name: role for name, role, _ in directories} == roles
    assert all(required for _, _, required in directories)
    assert writes == [("cpuset.mems", "0"), ("cpuset.cpus", "0")]
    directories, writes = made(cgroups.check(cgroup_parent="/jobs", memory="1M"))  # no fewer for a limit
    assert {name for name, _, _ in directories} == set(roles)
    cgroup(tmp_path / "unified/jobs")
    assert {name for name, _, _ in made(cgroups.check(cgroup_parent="/jobs"))[0]} == {*roles, "unified"}


def test_a_named_cgroup_is_joined_on_v2(machine: Machine, tmp_path: Path) -> None:
    machine(v2=["memory"])
    cgroup(tmp_path / "unified/jobs", controllers=["memory"])
    roles = cgroups.V2 | cgroups.FREEZER | cgroups.CPU_TIME
    assert made(cgroups.check(cgroup_parent="/jobs")) == ([("unified", roles, True)], [])


def test_a_named_cgroup_that_is_nowhere_is_refused(machine: Machine) -> None:
    for trees in ({"v1": ["memory"], "v2": []}, {"v2": []}, {"v1": ["memory"]}):
        machine(**trees)
        with pytest.raises(SpecError, match=r"cgroup_parent: .*'/jobs'"):
            cgroups.plan(cgroups.check(cgroup_parent="/jobs"))


def test_on_v1_swap_is_off_unless_asked_for(machine: Machine, tmp_path: Path) -> None:
    machine(v1=["memory"])
    assert ("memory.swappiness", "0") in made(cgroups.check(memory="1M"))[1]
    (tmp_path / "memory/own/memory.memsw.limit_in_bytes").write_text("")
    limit = ("memory.limit_in_bytes", "1048576")
    both = "memory.memsw.limit_in_bytes"
    assert made(cgroups.check(memory="1M"))[1] == [limit, (both, "1048576")]
    assert made(cgroups.check(memory="1M", memory_swap="3M"))[1] == [limit, (both, "3145728")]
    assert made(cgroups.check(memory="1M", memory_swap="-1"))[1] == [limit, (both, "-1")]


def test_a_swap_limit_that_v1_can_not_hold_is_refused(machine: Machine) -> None:
    machine(v1=["memory"])
    with pytest.raises(LaunchError, match="swapaccount=1"):
        cgroups.plan(cgroups.check(memory="1M", memory_swap="2M"))


def test_a_fresh_v1_cpuset_gets_its_nodes_before_its_cpus(machine: Machine, tmp_path: Path) -> None:
    machine(v1=["cpuset"])
    (tmp_path / "cpuset/own/cpuset.mems").write_text("0\n")
    (tmp_path / "cpuset/own/cpuset.cpus").write_text("0-7\n")
    assert made(cgroups.check(cpuset="0"))[1] == [("cpuset.mems", "0"), ("cpuset.cpus", "0")]
    (tmp_path / "cpuset/own/cpuset.cpus").write_text("1-7\n")
    with pytest.raises(SpecError, match=r"out of 1-7 \(what the cgroup above has\)"):
        cgroups.plan(cgroups.check(cpuset="0"))


def test_controllers_that_share_a_v1_tree_share_the_directory(machine: Machine) -> None:
    found = machine(v1=["cpu"])
    found.v1["cpuacct"] = found.v1["cpu"]
    directories, _ = made(cgroups.check(cpus=0.5, need_cpu_time=True))
    assert directories == [("cpu", cgroups.CPU | cgroups.CPU_TIME, True)]


def test_on_v2_there_is_one_directory_for_all(machine: Machine, tmp_path: Path) -> None:
    machine(v2=["memory", "cpu", "pids"], caller="/", root=True)
    (tmp_path / "unified/cgroup.subtree_control").write_text("memory cpu pids\n")
    directories, writes = made(cgroups.check(memory="1M", memory_swap="2M", cpus=1, pids=5))
    roles = cgroups.V2 | cgroups.FREEZER | cgroups.CPU_TIME | cgroups.MEMORY | cgroups.CPU | cgroups.PIDS
    assert directories == [("unified", roles, True)]
    assert dict(writes) == {
        "memory.max": "1048576",
        "memory.swap.max": "1048576",
        "cpu.max": "100000 100000",
        "pids.max": "5",
    }


def test_on_v2_controllers_are_enabled_where_it_is_allowed(machine: Machine, tmp_path: Path) -> None:
    machine(v2=["memory"], caller="/", root=True)
    cgroups.plan(cgroups.check(memory="1M"))
    assert (tmp_path / "unified/cgroup.subtree_control").read_text() == "+memory"


def test_on_v2_a_named_cgroup_with_processes_is_not_touched_and_the_error_says_so(
    machine: Machine, tmp_path: Path
) -> None:
    machine(v2=["memory", "pids"])
    for limits in (cgroups.check(memory="1M", cgroup_parent="."), cgroups.check(pids=5, cgroup_parent=".")):
        with pytest.raises(LaunchError) as caught:
            cgroups.plan(limits)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.stage == "cgroup"
        assert "cgroup_parent" in str(caught.value)
    # "+pids" would have worked, and made a threaded domain of it.
    assert (tmp_path / "unified/own/cgroup.subtree_control").read_text() == ""


def test_on_v2_accounting_and_killing_need_no_controller(machine: Machine) -> None:
    machine(v2=["memory"])
    roles = cgroups.V2 | cgroups.FREEZER | cgroups.CPU_TIME
    assert made(cgroups.check(usage=True)) == ([("unified", roles, False)], [])
    assert made(cgroups.check(need_kill=True)) == ([("unified", roles, True)], [])
    assert made(cgroups.check(need_cpu_time=True)) == ([("unified", roles, True)], [])


def test_a_controller_that_nobody_offers_is_named(machine: Machine) -> None:
    machine(v2=["cpu"], caller="/", root=True)
    with pytest.raises(LaunchError, match="doesn't offer memory here"):
        cgroups.plan(cgroups.check(memory="1M"))


def test_on_a_hybrid_machine_clock_and_kill_come_from_v2(machine: Machine) -> None:
    machine(v1=["memory", "cpuacct", "pids", "blkio", "freezer"], v2=[])
    directories, _ = made(cgroups.check(usage=True, need_kill=True))
    roles = cgroups.V2 | cgroups.FREEZER | cgroups.CPU_TIME
    assert directories[0] == ("unified", roles, True)  # who kills by the first finds cgroup.kill
    assert {name for name, _, _ in directories} == {"memory", "pids", "blkio", "unified"}


def test_there_v1_counts_for_a_container_whose_commands_join_cgroups_of_their_own(machine: Machine) -> None:
    machine(v1=["memory", "cpuacct", "pids", "blkio", "freezer"], v2=[])
    directories, _ = made(cgroups.check(usage=True, lives=True))
    assert {name for name, _, _ in directories} == {"memory", "pids", "blkio", "cpuacct"}
    assert ("cpuacct", cgroups.CPU_TIME, False) in directories
    machine(v1=["memory", "pids", "freezer"], v2=[])
    directories, _ = made(cgroups.check(usage=True, lives=True))
    assert directories[0][0] == "unified"


def test_a_place_to_freeze_in_is_named_but_not_made(machine: Machine, tmp_path: Path) -> None:
    def place() -> tuple[bytes, bool]:
        plan = cgroups.plan(cgroups.check(pids=5))
        assert plan is not None
        return plan[6:8]

    machine(v1=["pids", "freezer"], v2=[])
    assert place() == (os.fsencode(tmp_path / "unified/own"), True)
    machine(v1=["pids", "freezer"])
    assert place() == (os.fsencode(tmp_path / "freezer/own"), False)
    machine(v1=["pids"])
    assert place() == (b"", False)


def test_devices_are_held_by_v1s_controller_or_a_program_on_v2(machine: Machine) -> None:
    machine(v1=["memory", "devices"], v2=[])
    directories, writes = made(cgroups.check(need_devices=True))
    assert directories == [("devices", cgroups.DEVICES, True)]
    assert [line for line in writes if "deny" in str(line)] == writes[:1]  # nothing, then what is allowed
    machine(v2=[])
    roles = cgroups.DEVICES | cgroups.V2 | cgroups.FREEZER | cgroups.CPU_TIME
    assert made(cgroups.check(need_devices=True))[0][0][1:] == (roles, True)
    machine(v1=["memory"])
    with pytest.raises(LaunchError, match="off the devices"):
        cgroups.plan(cgroups.check(need_devices=True))


def test_on_a_v1_machine_they_come_from_v1(machine: Machine) -> None:
    machine(v1=["memory", "cpuacct", "pids", "freezer"])
    directories, _ = made(cgroups.check(need_cpu_time=True, need_kill=True))
    assert directories == [("cpuacct", cgroups.CPU_TIME, True), ("freezer", cgroups.FREEZER, True)]


def test_one_command_is_counted_where_nobody_waits_to_join(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock() -> list[tuple[str, int]]:
        directories = cgroups.plan_clock()[1]
        return [(("cpuacct", "unified")["/unified" in os.fsdecode(row[0])], row[2]) for row in directories]

    v2 = cgroups.V2 | cgroups.FREEZER | cgroups.CPU_TIME
    machine(v2=["memory"])
    assert clock() == [("unified", v2)]
    machine(v1=["memory", "pids"], v2=[])
    assert clock() == [("unified", v2)]
    machine(v1=["memory", "cpuacct", "freezer"], v2=[])
    assert clock() == [("cpuacct", cgroups.CPU_TIME)]
    may_not = {"cpuacct"}
    monkeypatch.setattr(os, "access", lambda path, *_, **__: not any(name in str(path) for name in may_not))
    assert clock() == [("unified", v2)]
    may_not.add("unified")  # whoever can't make one is told so when it is made
    assert clock() == [("cpuacct", cgroups.CPU_TIME)]
    machine()
    with pytest.raises(LaunchError, match="no cgroup tree that counts"):
        cgroups.plan_clock()


def test_where_only_a_birth_leads_into_a_cgroup_one_command_has_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(v2=["memory"])
    plan = cgroups.plan(cgroups.check(need_cpu_time=True))
    assert plan is not None
    monkeypatch.setattr(cgroups, "_carried_out", lambda _: (*plan[:-1], True))
    with pytest.raises(SpecError, match=r"cpu_time.*usage=True"):
        cgroups.plan_clock()


def test_without_any_tree_a_limit_is_an_error_and_accounting_is_not(machine: Machine) -> None:
    machine()
    assert cgroups.plan(cgroups.check(usage=True)) is None
    for limits in (
        cgroups.check(memory="1M"),
        cgroups.check(pids=1),
        cgroups.check(need_kill=True),
        cgroups.check(need_cpu_time=True),
    ):
        with pytest.raises(LaunchError, match="no cgroup tree"):
            cgroups.plan(limits)


def test_a_weight_that_nothing_heeds_is_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(v1=["blkio"])
    monkeypatch.setattr(cgroup_files, "_schedulers", lambda: ["[none] mq-deadline bfq \n"])
    with pytest.raises(LaunchError, match="heeds io weights"):
        cgroups.plan(cgroups.check(io_weight=50))
    monkeypatch.setattr(cgroup_files, "_schedulers", lambda: ["none mq-deadline [bfq] \n"])
    assert made(cgroups.check(io_weight=50))[1] == [("blkio.bfq.weight", "50")]


def test_a_parent_is_named_by_cgroup_by_directory_or_from_the_callers(
    machine: Machine, tmp_path: Path
) -> None:
    machine(v1=["pids", "memory"], v2=[])
    jobs = cgroup(tmp_path / "pids/jobs", v1=True)
    below = cgroup(tmp_path / "pids/own/mine", v1=True)

    def parent(name: str) -> str:
        plan = cgroups.plan(cgroups.check(pids=5, usage=True, cgroup_parent=name))
        assert plan is not None
        assert len(plan[1]) == 1  # usage= asks for more, but there is no such cgroup in the others
        return plan[1][0][0].decode()

    assert parent("/jobs") == str(jobs)
    assert parent(str(jobs) + "/") == str(jobs)
    assert parent(f"{tmp_path}/memory/jobs") == str(jobs)
    assert parent("../jobs") == str(jobs)
    assert parent("mine") == str(below)
    for missing in ("/no", "no", str(tmp_path / "pids/no"), "/jobs/../no", "/../../etc"):
        with pytest.raises(SpecError, match="cgroup_parent: no cgroup"):
            cgroups.plan(cgroups.check(pids=5, cgroup_parent=missing))


def test_a_kill_of_a_group_above_keeps_the_callers_memory_out(machine: Machine, tmp_path: Path) -> None:
    found = machine(v2=[], caller="/user/own")
    assert found.v2 is not None
    jobs = cgroup(tmp_path / "unified/user/jobs")
    (jobs / "memory.oom.group").write_text("1\n")
    assert cgroup_v2.oom_group_above(found.v2, str(jobs))
    (jobs / "memory.oom.group").write_text("0\n")
    assert not cgroup_v2.oom_group_above(found.v2, str(jobs))
    (tmp_path / "unified/user/memory.oom.group").write_text("1\n")  # the caller's, too: it is meant
    assert not cgroup_v2.oom_group_above(found.v2, str(jobs))


def test_an_update_writes_only_what_was_asked_for(machine: Machine) -> None:
    machine(v1=["memory", "cpu"])
    limits = cgroups.check(cpus=0.25)
    assert limits is not None
    assert cgroups.plan_update(limits) == [(cgroups.CPU, b"cpu.cfs_quota_us", b"25000")]


# Finding the trees


def find(monkeypatch: pytest.MonkeyPatch, where: str, mounts: str) -> Trees:
    texts = {"/proc/self/cgroup": where, "/proc/self/mountinfo": mounts}
    monkeypatch.setattr(cgroup_tree, "read_or", texts.get)
    return cgroup_tree.find()


def test_a_hybrid_machine_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(
        monkeypatch,
        "5:name=systemd:/\n4:memory:/a/b\n3:cpu,cpuacct:/\n2:blkio:/\n0::/u\n",
        "23 1 8:1 / / rw - ext4 /dev/vda rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        "33 31 0:30 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n"
        "34 31 0:31 / /sys/fs/cgroup/blk\\040io rw - cgroup cgroup rw,blkio\n"
        "35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    )
    assert set(found.v1) == {"cpu", "cpuacct", "memory", "io"}
    assert cgroup_tree.caller_directory(found.v1["memory"]) == "/sys/fs/cgroup/memory/a/b"
    assert cgroup_tree.caller_directory(found.v1["cpu"]) == "/sys/fs/cgroup/cpu,cpuacct"
    assert cgroup_tree.caller_directory(found.v1["io"]) == "/sys/fs/cgroup/blk io"
    assert found.v1["cpu"].name == "cpu,cpuacct"
    assert found.v2 is not None and found.v2.name == "unified"
    assert len(list(found.all())) == 4


def test_a_unified_machine_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    found = find(monkeypatch, "0::/user.slice/s-1.scope\n", mount)
    assert not found.v1 and found.v2 is not None
    assert cgroup_tree.caller_directory(found.v2) == "/sys/fs/cgroup/user.slice/s-1.scope"
    assert found.v2.name == ""
    assert list(cgroup_tree.chain(found.v2, "/sys/fs/cgroup/a/b")) == [
        "/sys/fs/cgroup/a/b",
        "/sys/fs/cgroup/a",
        "/sys/fs/cgroup",
    ]


def test_a_part_of_a_tree_mounted_in_a_container_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = "30 23 0:26 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
    found = find(monkeypatch, "0::/docker/1/app\n", mount)
    assert found.v2 is not None
    assert cgroup_tree.caller_directory(found.v2) == "/sys/fs/cgroup/app"
    assert find(monkeypatch, "0::/docker/12\n", mount).v2 is None  # not below /docker/1
    assert find(monkeypatch, "0::/\n", mount).v2 is None
    assert find(monkeypatch, "0::/../other\n", mount.replace("/docker/1", "/")).v2 is not None


@pytest.mark.parametrize("text", ["", "\n\n", "garbage", "0::", ":::::", "1:memory", "0::/\n0::/x"])
def test_garbage_in_proc_is_no_tree(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    found = find(monkeypatch, text, "")
    assert not found.v1 and found.v2 is None


def test_a_machine_without_proc_has_no_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "no", path)

    monkeypatch.setattr(os, "open", refused)
    found = cgroup_tree.find()
    assert not found.v1 and found.v2 is None


# Owners and sweeping


def name_of(pid: int, start: str | None = None, namespace: int | None = None, number: str = "1") -> str:
    boot = cgroup_sweep._boot()
    namespace = namespace or os.stat("/proc/self/ns/pid").st_ino
    return f"pyminicon-{boot}-{namespace}-{pid}-{start or cgroup_sweep._started(pid)[0]}-{number}"


def test_the_owner_is_this_process_and_after_a_fork_the_child() -> None:
    assert f"{cgroup_sweep.owner()}-1" == name_of(os.getpid())
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, cgroup_sweep.owner().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert f"-{pid}-" in os.read(read_end, 200).decode()
    os.close(read_end)
    os.close(write_end)


def test_the_living_own_what_they_made() -> None:
    assert not cgroup_sweep.is_dead(name_of(os.getpid()))
    assert not cgroup_sweep.is_dead(name_of(os.getppid()))


def test_the_dead_own_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = name_of(process.pid)
    assert not cgroup_sweep.is_dead(name)
    process.kill()
    while cgroup_sweep._started(process.pid)[1] is False:
        time.sleep(0.01)
    assert cgroup_sweep.is_dead(name)  # dead, though not reaped
    process.communicate()
    assert cgroup_sweep.is_dead(name)


def test_a_pid_that_came_back_is_somebody_else() -> None:
    assert cgroup_sweep.is_dead(name_of(os.getpid(), start="1"))


def test_a_thread_that_outlives_the_first_one_keeps_its_process_alive() -> None:
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"  # exit(2), not exit_group(2): x86_64's number
    )
    if os.uname().machine != "x86_64":
        pytest.skip("the number of exit(2) is x86_64's")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    try:
        deadline = time.monotonic() + 60
        while cgroup_tree.read(f"/proc/{process.pid}/stat").rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not cgroup_sweep.is_dead(name_of(process.pid))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "name",
    [
        "pyminicon-",
        "pyminicon-x",
        "pyminicon-1-2-3-4",
        "pyminicon-1-2-3-4-5-6",
        "other-1-2-3-4-5",
        "pyminicon-aaaaaaaa-1-x-1-1",
        "pyminicon-aaaaaaaa-1-1-1-",
        "pyminicon-aaaaaaaa-1-2-3-4",
    ],
)
def test_what_is_not_named_like_ours_is_left_alone(name: str) -> None:
    assert not cgroup_sweep.is_dead(name)


def test_another_boot_and_a_pid_namespace_with_people_in_it_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = name_of(os.getpid(), start="1")
    assert cgroup_sweep.is_dead(gone)
    assert not cgroup_sweep.is_dead(gone.replace(cgroup_sweep._boot(), "00000000"))
    elsewhere = name_of(1, start="1", namespace=17)
    monkeypatch.setattr(cgroup_sweep, "_somebody_in", lambda namespace: True)
    assert not cgroup_sweep.is_dead(elsewhere)
    monkeypatch.setattr(cgroup_sweep, "_somebody_in", lambda namespace: False)
    initial = os.stat("/proc/self/ns/pid").st_ino == cgroup_sweep._INITIAL_PID_NAMESPACE
    assert cgroup_sweep.is_dead(elsewhere) is initial  # from elsewhere the namespace can't be seen


def test_a_sweep_takes_only_what_the_dead_left(tmp_path: Path) -> None:
    dead = [tmp_path / name_of(os.getpid(), start="1", number=str(number)) for number in (1, 2)]
    living = [tmp_path / name_of(os.getpid()), tmp_path / name_of(os.getppid()), tmp_path / "pyminicon-mine"]
    for directory in dead + living:
        directory.mkdir()
    assert sorted(cgroup_sweep.sweep_directory(str(tmp_path))) == sorted(map(str, dead))
    assert sorted(tmp_path.iterdir()) == sorted(living)
    assert cgroup_sweep.sweep_directory(str(tmp_path / "missing")) == []


def test_a_process_sweeps_a_directory_once(machine: Machine, tmp_path: Path) -> None:
    machine(v1=["pids"])
    cgroups.plan(cgroups.check(pids=5))
    left = tmp_path / "pids/own" / name_of(os.getpid(), start="1")
    left.mkdir()
    cgroups.plan(cgroups.check(pids=5))
    assert left.exists()
    machine(v1=["pids"])  # as another process would
    cgroups.plan(cgroups.check(pids=5))
    assert not left.exists()


def test_a_sweep_that_was_interrupted_is_gone_on_with_at_the_next_launch(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(v1=["memory", "pids"])
    left = [tmp_path / tree / "own" / name_of(os.getpid(), start="1") for tree in ("memory", "pids")]
    for directory in left:
        directory.mkdir()

    def interrupted(directory: str) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(cgroup_sweep, "sweep_directory", interrupted)
        cgroups.plan(cgroups.check(memory="1M"))
    cgroups.plan(cgroups.check(memory="1M"))
    assert [directory.exists() for directory in left] == [True, False]  # it stays where it was interrupted


def test_the_report_names_a_place_or_a_problem_for_each_limit(machine: Machine, tmp_path: Path) -> None:
    machine(v1=["memory", "pids"])
    lines = {line.name: line for line in cgroup_report.report()}
    assert lines["memory"].where == str(tmp_path / "memory/own") and not lines["memory"].problem
    assert lines["cpus"].where == "" and "no cgroup tree" in lines["cpus"].problem
    assert sorted(path.name for path in (tmp_path / "memory/own").iterdir()) == ["cgroup.procs"]
    (tmp_path / "pids/own/cgroup.procs").unlink()
    (tmp_path / "pids/own").rmdir()
    assert "No such file" in {line.name: line for line in cgroup_report.report()}["pids"].problem


def test_without_systemd_containers_stand_beside_the_caller(machine: Machine, tmp_path: Path) -> None:
    found = machine(v2=["memory"], caller="/delegated/caller")
    above = cgroup(tmp_path / "unified/delegated", controllers=["memory"])
    for directory in (above, tmp_path / "unified"):
        (directory / "cgroup.subtree_control").write_text("memory\n")
    plan = cgroups.plan(cgroups.check(memory="1M"))
    assert plan is not None and plan[1][0][0] == os.fsencode(above)
    assert found.place is not None and found.place.how == "beside the caller's own cgroup"
    named = cgroups.plan(cgroups.check(memory="1M", cgroup_parent=".."))
    assert named is not None and named[1][0][0] == os.fsencode(above)
