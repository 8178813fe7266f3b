"""The floor is a real container, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import rootfs
from benchmarks.contestants import DEFAULTS, DEFAULTS_READ_ONLY, NAMESPACES
from benchmarks.floor import STEP_NAMES, Floor, FloorError
from benchmarks.ground import cgroup_mounts, network_namespace, own_memory_cgroup, unified_cgroup
from benchmarks.ladder import rungs
from tests.support import leftovers

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="the floor is launched as root"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="the floor is built on demand with g++"),
]

# A filter that lets everything pass, in place of the product's.
_ALLOW = bytes.fromhex("06000000" + "0000ff7f")


def _state() -> tuple[int, set[str], list[str], int]:
    mounts = len(Path("/proc/self/mountinfo").read_text().splitlines())
    root = cgroup_mounts().get("memory")
    cgroups = [name for name in os.listdir(root) if "floor" in name or "bench" in name] if root else []
    return mounts, leftovers.children(), cgroups, len(os.listdir("/proc/self/fd"))


@pytest.fixture
def untouched() -> Iterator[None]:
    before = _state()
    yield
    until = time.monotonic() + 20
    while _state() != before and time.monotonic() < until:  # the machine's mounts are others' as well
        time.sleep(0.05)
    assert _state() == before


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("rung", rungs(), ids=lambda rung: rung.name)
def test_a_rung_can_be_stood_on_and_leaves_nothing(rung) -> None:  # type: ignore[no-untyped-def]
    with own_memory_cgroup() as memory, unified_cgroup() as unified, network_namespace() as netns:
        if "cgroup_v2" in rung.steps and unified < 0:
            pytest.skip("there is no cgroup v2 tree here")
        if "cgroup_v1" in rung.steps and memory < 0:
            pytest.skip("there is no cgroup v1 memory controller here")
        given = {
            "filter": _ALLOW,
            "cgroup_parent": unified if "cgroup_v2" in rung.steps else memory,
            "netns": netns,
        }
        floor = Floor(rootfs.minimal(), rung.steps, rung.argv, **given)
        for _ in range(3):
            assert floor.launch() > 0


@pytest.mark.usefixtures("untouched")
def test_the_loopback_inside_is_up_only_where_a_rung_says_so() -> None:
    root = rootfs.minimal()
    assert Floor(root, NAMESPACES, ("l",)).launch(expect=0)
    assert Floor(root, [n for n in NAMESPACES if n != "loopback"], ("l",)).launch(expect=1)


@pytest.mark.usefixtures("untouched")
def test_the_programs_own_status_comes_back() -> None:
    assert Floor(rootfs.minimal(), DEFAULTS, ("7",), filter=_ALLOW).launch(expect=7)
    with pytest.raises(FloorError, match="wait status 0x700"):
        Floor(rootfs.minimal(), (), ("7",)).launch()


@pytest.mark.usefixtures("untouched")
def test_a_failing_step_is_named() -> None:
    with pytest.raises(FloorError) as caught:
        Floor(rootfs.minimal(), (*DEFAULTS, "stock_net"), filter=_ALLOW, netns=-1).launch()
    assert caught.value.filename == "stock_net" and caught.value.errno == 9


@pytest.mark.usefixtures("untouched")
def test_captured_bytes_come_back() -> None:
    floor = Floor(rootfs.minimal(), (*DEFAULTS, "capture"), ("w",), filter=_ALLOW)
    floor.launch()
    assert floor.captured == len("hello from inside\n")


@pytest.mark.usefixtures("untouched")
def test_a_parked_child_is_used_once_and_discarded_at_the_end() -> None:
    before = leftovers.children()
    floor = Floor(rootfs.minimal(), (*DEFAULTS, "parked", "hold_mounts"), ("7",), filter=_ALLOW)
    try:
        assert [floor.launch(expect=7) > 0 for _ in range(3)] == [True] * 3
        assert len(leftovers.children() - before) == 1
    finally:
        floor.close()


@pytest.mark.usefixtures("untouched")
def test_a_step_that_fails_while_parking_is_named() -> None:
    floor = Floor(rootfs.minimal(), (*DEFAULTS, "stock_net", "parked"), filter=_ALLOW, netns=-1)
    with pytest.raises(FloorError) as caught:
        floor.launch()
    assert caught.value.filename == "stock_net"
    floor.close()


def test_the_root_is_not_written_by_a_launch() -> None:
    root = rootfs.minimal()
    before = {p: p.lstat().st_mtime_ns for p in root.rglob("*")}
    Floor(root, DEFAULTS, filter=_ALLOW).launch()
    Floor(root, DEFAULTS_READ_ONLY, filter=_ALLOW).launch()
    assert {p: p.lstat().st_mtime_ns for p in root.rglob("*")} == before


def test_the_timeline_names_every_step_and_adds_up() -> None:
    floor = Floor(rootfs.minimal(), DEFAULTS, filter=_ALLOW, stamped=True)
    total = floor.launch()
    rows = floor.timeline()
    kinds = {"mount", "pid", "uts", "ipc", "cgroup", "net"}  # these are flags of the clone
    assert {name for name, _ in rows} >= set(DEFAULTS) - kinds
    assert sum(took for _, took in rows) == total


def test_the_names_of_the_steps_are_those_of_the_header() -> None:
    header = (Path(__file__).parents[2] / "benchmarks" / "floor" / "floor.h").read_text()
    in_header = [line.split()[0] for line in header.splitlines() if "1ull <<" in line]
    told = ["k" + name.title().replace("_", "") for name in STEP_NAMES]
    renamed = {
        "kMount": "kNsMount", "kPid": "kNsPid", "kUts": "kNsUts", "kIpc": "kNsIpc", "kCgroup": "kNsCgroup",
        "kNet": "kNsNet", "kUserSingle": "kNsUserSingle", "kUserRanges": "kNsUserRanges", "kTime": "kNsTime",
    }  # fmt: skip
    assert [renamed.get(name, name) for name in told] == in_header
