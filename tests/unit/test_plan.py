"""From a Spec to a plan: what is decided before anything runs."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pyminicon import plan as ops
from pyminicon.errors import SpecError
from pyminicon.options import capabilities
from pyminicon.options.parse import parse
from pyminicon.plan import build as plan
from pyminicon.plan import tree as plan_tree
from pyminicon.plan.build import build, candidates
from pyminicon.seccomp import default_profile as seccomp_table

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getegid", lambda: 0)
    monkeypatch.setattr(os, "getresuid", lambda: (0, 0, 0))
    monkeypatch.setattr(plan._core, "is_root", lambda: True)


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(os, "getegid", lambda: 4343)


def fields(args: Any = ("x",), **options: Any) -> dict[str, Any]:
    return build(parse(list(args), options)).fields


def mounts(**options: Any) -> list[tuple[int, str]]:
    return [(row[0], row[3]) for row in fields(**options)["mounts"]]


def test_root_gets_all_namespaces_but_the_users_and_the_clocks(root: None) -> None:
    assert fields()["namespaces"] == NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWPID | NEWNET


def test_an_ordinary_user_gets_a_user_namespace_too(somebody: None) -> None:
    made = fields()
    assert made["namespaces"] & NEWUSER
    assert made["own_uid_map"] == "0 4242 1\n"
    assert made["own_gid_map"] == "0 4343 1\n"


@pytest.mark.parametrize(
    ("option", "flag"), [("ipc", NEWIPC), ("uts", NEWUTS), ("cgroupns", NEWCGROUP), ("network", NEWNET)]
)
def test_a_namespace_of_the_host_is_left_out(root: None, option: str, flag: int) -> None:
    assert not fields(**{option: "host"})["namespaces"] & flag


def test_the_hosts_network_has_no_loopback_to_bring_up(root: None) -> None:
    assert fields()["loopback"]
    assert not fields(network="host")["loopback"]


def test_proc_comes_before_what_is_masked_in_it_then_users_mounts_then_sys(root: None) -> None:
    rows = mounts(volumes=["/tmp:/a/b"], tmpfs=["/a"])
    kinds = [kind for kind, _ in rows]
    assert kinds.index(ops.PROC) < kinds.index(ops.MASK_FILE) < kinds.index(ops.READ_ONLY)
    assert kinds.index(ops.DEV) < kinds.index(ops.MASK_FILE), "the mask's source is the container's /dev/null"
    at = kinds.index(ops.SYSFS)
    assert [target for _, target in rows[:at]][-2:] == ["a", "a/b"]
    assert all(str(target).split("/")[0] == "sys" for _, target in rows[at:])


def test_what_a_user_puts_into_sys_comes_after_it(root: None) -> None:
    rows = mounts(files={"/sys/x": b"", "/system": b""})
    at = [kind for kind, _ in rows].index(ops.SYSFS)
    assert "sys/x" in {target for _, target in rows[at:]}
    assert "system" in {target for _, target in rows[:at]}


def test_outer_mounts_come_before_inner_ones_else_the_users_order_holds(root: None) -> None:
    rows = mounts(volumes=["/tmp:/z/y/x", "/tmp:/b", "/tmp:/a"], tmpfs=["/z"])
    at = [kind for kind, _ in rows].index(ops.SYSFS)
    assert [target for _, target in rows[:at]][-4:] == ["z", "b", "a", "z/y/x"]


def test_proc_sys_and_dev_are_never_reached_through_a_link(root: None) -> None:
    for row in fields()["mounts"]:
        if row[0] in (ops.PROC, ops.SYSFS, ops.DEV):
            assert row[1] & ops.NO_SYMLINK


def test_a_read_only_image_has_no_writable_mount_of_its_trees(root: None) -> None:
    for row in fields(read_only=True)["mounts"]:
        if row[0] in (ops.BIND, ops.OVERLAY):
            assert row[1] & ops.RO


def test_only_a_path_without_volumes_or_change_of_ids_borrows_memory(root: None) -> None:
    assert not fields()["separate_memory"]
    assert not fields()["change_user"]
    assert fields(user="5")["change_user"]
    assert fields(volumes=["/tmp:/v"])["separate_memory"]


def test_the_environment_is_clean_and_env_wins(root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    made = build(parse(["x"], {"env": {"HOME": "/h", "A": "="}, "hostname": "box"}))
    names = sorted(line.partition("=")[0] for line in made.exec_spec[2])
    assert names == ["A", "HOME", "HOSTNAME", "PATH", "TERM"]
    assert {"A==", "HOME=/h", "HOSTNAME=box"} <= set(made.exec_spec[2])


def test_candidates_follow_execvpe() -> None:
    assert candidates("sh", "/a:/b") == ["/a/sh", "/b/sh"]
    assert candidates("sh", ":/b:") == ["./sh", "/b/sh", "./sh"]
    assert candidates("./sh", "/a") == ["./sh"]
    assert candidates("/sh", "/a") == ["/sh"]


def test_no_args_and_no_command_of_the_image_is_an_error(root: None) -> None:
    with pytest.raises(SpecError, match="args"):
        fields(args=())


def test_the_default_capabilities_are_dockers_and_the_same_in_both_places() -> None:
    assert plan.DEFAULT_CAPABILITIES == capabilities.DEFAULT_MASK == 0xA80425FB
    assert bin(plan.DEFAULT_CAPABILITIES).count("1") == 14


def test_the_compiled_filter_is_used_only_for_the_defaults(root: None) -> None:
    assert fields()["seccomp"] is True
    for options in ({"cap_add": ["SYS_ADMIN"]}, {"no_new_privileges": False}, {"seccomp": "unconfined"}):
        assert fields(**options)["seccomp"] is not True


def test_the_filter_knows_every_call_of_the_table() -> None:
    assert seccomp_table.ALLOWED


def test_a_rootfs_that_lacks_them_gets_proc_sys_and_dev(root: None, tmp_path: Path) -> None:
    made = [row[3] for row in fields(image=str(tmp_path))["skeleton"]]
    assert {"proc", "sys", "dev", "etc", "etc/hosts", "etc/hostname"} <= set(made)


def test_the_attributes_of_the_images_directories_are_carried_over(root: None, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc").chmod(0o710)
    rows = {row[3]: row for row in fields(image=str(tmp_path))["skeleton"]}
    assert rows["etc"][5] == 0o710


def test_the_hostname_is_the_containers_id_by_default(root: None) -> None:
    made = build(parse(["x"], {}))
    assert made.fields["hostname_is_id"]
    assert len(made.id) == 12
    with pytest.raises(SpecError, match="hostname"):
        fields(uts="host", hostname="x")


def test_locks_of_an_image_are_released_when_the_plan_fails(
    root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    from pyminicon.plan import rootfs

    class Locked(rootfs.Rootfs):
        pass

    def find(image: str, *rest: Any) -> rootfs.Rootfs:
        made = Locked()
        made.layers = ["/nonexistent"]
        made.lock_fds = [fd]
        return made

    monkeypatch.setattr(rootfs, "find", find)
    with pytest.raises(SpecError):
        fields(args=())
    with pytest.raises(OSError):
        os.fstat(fd)


def test_how_often_each_processor_was_throttled_is_masked(
    root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells what others compute; many machines, all virtual ones, don't have it."""
    masks = [f"sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in (0, 11)]
    monkeypatch.setattr(plan_tree, "_throttles", None)
    monkeypatch.setattr(plan_tree, "_known", {})
    monkeypatch.setattr(os, "listdir", lambda path: ["cpu0", "cpu11", "cpufreq", "online"])
    lexists = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: path[1:] in masks or lexists(path))
    assert {(ops.MASK_DIR, mask) for mask in masks} <= set(mounts())


def test_the_core_reads_each_field_that_a_plan_may_have_and_no_other() -> None:
    """mypy holds what the plan writes to the stub's names; this holds those to the core's."""
    top = Path(__file__).resolve().parents[2]
    source = (top / "csrc/bind/values/from_python.cc").read_text()
    read = set(re.findall(r'fields\.(?:value|text|list|get)\("(\w+)"', source))
    stub = ast.parse((top / "pyminicon/_core.pyi").read_text())
    (kind,) = (node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "PlanFields")
    assert read == {node.target.id for node in kind.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
