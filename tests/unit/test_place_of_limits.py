"""Which place is looked for, and what of the caller's own limits is copied: trees of plain files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyminicon.cgroups import arrange, place, systemd, tree
from pyminicon.cgroups.tree import Tree, Trees
from pyminicon.errors import LaunchError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """make("a.slice/b.service", "memory.max=100"): a cgroup of files below tmp_path."""

    def cgroup(path: str, *files: str, root: bool = False) -> Path:
        directory = tmp_path / path
        directory.mkdir(parents=True, exist_ok=True)
        given = dict(file.split("=") for file in files)
        wanted = {"cgroup.procs": "", "cgroup.controllers": "memory pids\n", "cgroup.subtree_control": ""}
        for name, text in {**wanted, **({} if root else {"cgroup.type": "domain\n"}), **given}.items():
            (directory / name).write_text(text)
        return directory

    cgroup("", root=True)
    monkeypatch.setattr(tree, "systemd_runs", lambda: True)
    return cgroup


def at(tmp_path: Path, caller: str) -> Trees:
    found = Trees(os.getpid())
    found.v2 = Tree(str(tmp_path), "/", caller, [], True)
    return found


@pytest.mark.parametrize(
    ("path", "unit", "slices"),
    [
        ("/system.slice/cron.service", "cron.service", "/system.slice"),
        ("/system.slice/system-a.slice/a@1.service/below/it", "a@1.service", "/system.slice/system-a.slice"),
        ("/user.slice/user-0.slice/session-1.scope", "session-1.scope", "/user.slice/user-0.slice"),
        # A manager of root's own: to the system's manager that is one service.
        (
            "/user.slice/user-0.slice/user@0.service/app.slice/x.service",
            "user@0.service",
            "/user.slice/user-0.slice",
        ),
        ("/init.scope", "", ""),
        ("/", "", ""),
        ("", "", ""),
    ],
)
def test_the_unit_and_the_slice_of_a_cgroup_are_what_its_manager_calls_them(
    path: str, unit: str, slices: str
) -> None:
    assert systemd.split(path) == ("", unit, slices)


def test_what_systemd_manages_is_told_from_what_it_has_given_away(tmp_path: Path, make: Make) -> None:
    found = at(tmp_path, "/").v2
    assert found is not None
    for path in ("system.slice", "system.slice/a.service", "user@1.service"):
        make(path)
    given = make("system.slice/b.service")
    os.setxattr(given, "user.delegate", b"1")
    os.setxattr(tmp_path / "user@1.service", "user.delegate", b"1")  # to its manager, and to nobody else
    managed = ["", "/system.slice", "/system.slice/a.service", "/user@1.service"]
    if os.geteuid() == 0:  # an ordinary user's, below what isn't his, counts as given; here all is his
        assert all(tree.belongs_to_systemd(found, f"{tmp_path}{path}") for path in managed)
    assert not tree.belongs_to_systemd(found, str(given))
    assert not tree.belongs_to_systemd(found, str(make("jobs")))


def test_a_named_cgroup_that_systemd_manages_is_never_written(tmp_path: Path, make: Make) -> None:
    from pyminicon import cgroups

    unit = make("system.slice/a.service")
    found = at(tmp_path, "/system.slice/c.service")
    make("system.slice/c.service")
    tree._found = found
    try:
        with pytest.raises(LaunchError, match="systemd manages it") as caught:
            cgroups.plan(cgroups.check(pids=5, cgroup_parent="/system.slice/a.service"))
        assert len(str(caught.value)) < 150 + len(str(tmp_path))
    finally:
        tree._found = None
    assert (unit / "cgroup.subtree_control").read_text() == ""
    assert (tmp_path / "cgroup.subtree_control").read_text() == ""


def test_the_tightest_limits_between_the_caller_and_what_it_shares_with_the_place_are_copied(
    tmp_path: Path, make: Make
) -> None:
    found = at(tmp_path, "/a.slice/b.service/c").v2
    assert found is not None
    make("a.slice", "memory.max=1", "pids.max=1")  # above both: it holds anyway
    make("a.slice/b.service", "memory.max=100", "pids.max=max", "cpu.max=50000 100000")
    make("a.slice/b.service/c", "memory.max=300", "pids.max=7", "cpu.max=20000 20000", "memory.high=max")
    here, there = str(tmp_path / "a.slice/b.service/c"), str(make("a.slice/x.scope"))
    assert arrange.own_limits(found, here, there) == {
        "memory.max": "100",
        "pids.max": "7",
        "cpu.max": "50000 100000",
    }
    assert arrange.own_limits(found, here, here + "/below") == {}


@pytest.mark.parametrize(
    ("own", "scope", "copied"), [("0-1", "0-3", "0-1"), ("0-3", "0-3", ""), ("0-3", "1", "")]
)
def test_processors_that_the_caller_lacks_its_containers_lack(
    tmp_path: Path, make: Make, own: str, scope: str, copied: str
) -> None:
    found = at(tmp_path, "/a.service").v2
    assert found is not None
    here = make("a.service", f"cpuset.cpus.effective={own}\n")
    there = make("x.scope", f"cpuset.cpus.effective={scope}\n")
    limits = arrange.own_limits(found, str(here), str(there))
    assert limits.get("cpuset.cpus", "") == copied


def test_a_limit_of_the_callers_that_cannot_be_copied_fails_the_launch(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="own limit"):
        arrange.impose(str(tmp_path), {"memory.max": "100"})


def test_a_unit_with_threaded_cgroups_is_left_alone(make: Make) -> None:
    unit = make("a.service", "cgroup.procs=1\n", "cgroup.type=domain threaded\n")
    with pytest.raises(LaunchError, match="threaded"):
        arrange.clear(str(unit))
    assert not (unit / tree.LEAF).exists()


def test_a_place_that_is_not_there_is_asked_for_once_by_who_can_do_without(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = at(tmp_path, "/a.service")
    make("a.service")
    asked = []

    def lend(*_: object) -> None:
        asked.append(1)
        raise LaunchError(13, "cgroup", "nobody")

    monkeypatch.setattr(systemd, "lend", lend)
    for required, times in ((False, 1), (False, 1), (True, 2), (True, 3), (False, 3)):
        with pytest.raises(LaunchError):
            place.find(found, required)
        assert len(asked) == times


def test_on_a_read_only_tree_the_error_says_so(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = at(tmp_path, "/")
    real = os.statvfs(tmp_path)
    changed = os.statvfs_result((*real[:8], real.f_flag | os.ST_RDONLY, *real[9:]))
    monkeypatch.setattr(os, "statvfs", lambda _: changed)
    with pytest.raises(LaunchError, match="ProtectControlGroups=no") as caught:
        place.find(found)
    assert len(str(caught.value)) < 150 + len(str(tmp_path))


def test_a_stranger_who_holds_the_lock_of_a_unit_holds_nobody_up(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrange, "_LOOKS", 2)
    unit = make("a.service", "cgroup.procs=1\n")
    monkeypatch.setattr(arrange, "_move", lambda pid, leaf: (unit / "cgroup.procs").write_text(""))
    held = os.open(unit, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert arrange.clear(str(unit)) == str(unit / tree.LEAF)
    finally:
        os.close(held)
