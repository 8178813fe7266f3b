"""Limits that hold, and results that tell: on whichever cgroup version this machine has."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import cgroups
from pyminicon.cgroups import sweep as cgroup_sweep
from pyminicon.cgroups import tree as cgroup_tree
from tests.support import groups
from tests.support.placement import needs_limit
from tests.support.processes import in_namespace
from tests.support.run import out
from tests.support.waiting import soon

MEBI = 1 << 20
HOG = "x = []\nwhile True: x.append(bytearray(4096))"
BUSY = "import threading\ndef burn():\n  while True: pass\nthreading.Thread(target=burn).start()\nburn()"


@pytest.fixture(scope="session")
def warm(warm: None) -> None:
    """The first limit of a started container makes what watches all of them: one descriptor, kept."""
    with pyminicon.start(["/bin/true"], wall_time=60) as container:
        container.wait()


@pytest.fixture
def place() -> None:
    """Skips where memory can't be limited."""
    needs_limit("memory", "64M")


@pytest.fixture
def v2(place: None) -> cgroup_tree.Tree:
    trees = cgroup_tree.trees()
    if trees.v2 is None or "memory" in trees.v1:
        pytest.skip("needs cgroup v2")
    return trees.v2


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def kernel() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int(minor)


def ours() -> list[str]:
    """The cgroups of this process's containers that are there now, but for what they share on v1, where nobody is."""
    found = []
    for tree in cgroup_tree.trees().all():
        directory = cgroups.parent_directory(cgroup_tree.trees(), tree, None)
        assert directory is not None
        mine = cgroup_sweep.owner()
        found += [
            f"{directory}/{name}"
            for name in os.listdir(directory)
            if name.startswith(mine) and name != f"{mine}-0"
        ]
    return found


@contextlib.contextmanager
def running(args: list[str], **options: Any) -> Iterator[pyminicon.Container]:
    with pyminicon.start(args, **options) as container:
        yield container


# Memory


@pytest.mark.parametrize("memory", ["8M", "64M"])
def test_a_hog_dies_of_its_limit_and_the_result_says_so(place: None, memory: str) -> None:
    result = pyminicon.run(python(HOG), image="python", memory=memory)
    assert (result.limit, result.returncode) == ("memory", -signal.SIGKILL)
    if result.usage.memory_peak is not None:
        limit = int(memory[:-1]) * MEBI
        assert limit * 0.95 <= result.usage.memory_peak <= limit
    assert ours() == []


def test_who_stays_below_the_limit_lives(place: None) -> None:
    code = "x = bytearray(20 << 20)"
    result = pyminicon.run(python(code), image="python", memory="64M")
    assert (result.limit, result.returncode) == (None, 0)


def test_a_hog_that_is_not_pid_1_ends_the_container_too(place: None) -> None:
    line = f"{sys.executable} -c '{HOG}' & wait; sleep 60"
    for init in (False, True):
        result = pyminicon.run(["sh", "-c", line], image="python", memory="32M", init=init)
        assert (result.limit, result.returncode) == ("memory", -signal.SIGKILL)


def test_a_hog_under_start_is_ended_without_anybody_waiting(place: None) -> None:
    line = f"{sys.executable} -c '{HOG}' & wait; sleep 60"
    with running(["sh", "-c", line], image="python", memory="32M") as container:
        assert container.wait(30) == -signal.SIGKILL
        assert container.limit == "memory"
    assert ours() == []


@pytest.mark.parametrize("where", ["/data/x", "/dev/shm/x", "/tmp/x", "/root/x"])
def test_files_in_memory_count(place: None, where: str) -> None:
    if where in ("/tmp/x", "/root/x") and os.geteuid() != 0:
        pytest.skip("needs root: an ordinary user's writable layer may lie on disk")
    options = {"tmpfs": ["/data:size=100m"]}
    line = f"dd if=/dev/zero of={where} bs=1M count=48 && sleep 1"
    result = pyminicon.run(["sh", "-c", line], memory="24M", capture_output=True, **options)
    assert result.limit == "memory"
    result = pyminicon.run(["sh", "-c", line.replace("count=48", "count=8")], memory="64M", **options)
    assert (result.limit, result.returncode) == (None, 0)


@pytest.mark.parametrize("memory", ["4K", "64K", "256K", "512K", "1M"])
def test_a_tiny_limit_never_hurts_the_parent(place: None, memory: str) -> None:
    before = os.getpid()
    for _ in range(5):
        try:
            result = pyminicon.run(["/bin/true"], memory=memory)
        except pyminicon.LaunchError as error:
            assert error.stage  # some step had no memory; which one differs from kernel to kernel
        else:
            # A page fault that can't be charged is a SIGSEGV where there is nobody to kill for it (7.2).
            starved = -11 if memory.endswith("K") else 0
            assert result.limit == "memory" or result.returncode in (0, starved)
    assert os.getpid() == before
    assert ours() == []


def test_below_a_mebibyte_a_kill_is_a_launch_error(place: None) -> None:
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["/bin/true"], memory="64K")
    assert caught.value.errno
    assert ours() == []


def test_swap_is_no_way_out(place: None) -> None:
    line = "cat /sys/fs/cgroup/memory.swap.max /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes 2>/dev/null"
    shown = pyminicon.run(["sh", "-c", line], memory="64M", capture_output=True, text=True).stdout
    assert shown.strip() in ("0", str(64 * MEBI), "")


def test_a_group_that_is_killed_whole_does_not_take_the_parent_with_it(
    v2: cgroup_tree.Tree, place: None
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    group = Path(v2.mount) / f"pyminicon_test-group-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.max").write_text("48M")
        (group / "memory.oom.group").write_text("1")
        for name in ("memory", "pids"):
            (group / "cgroup.subtree_control").write_text(f"+{name}")
        code = f"""
            import pyminicon, threading, time
            end = time.monotonic() + 6
            kw = dict(cgroup_parent="/{group.name}")
            def hog():
                while time.monotonic() < end:
                    pyminicon.run(["tail", "/dev/zero"], memory="100M", **kw)
            thread = threading.Thread(target=hog); thread.start()
            ends = []
            while time.monotonic() < end:
                try: ends.append(pyminicon.run(["/bin/true"], pids=9, **kw).returncode)
                except pyminicon.LaunchError: ends.append(None)
            thread.join()
            print("alive", len(ends))
        """
        done = subprocess.run(python(code), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("alive ")
    finally:
        groups.remove(group)


@pytest.fixture
def parent(needs_root: None) -> Iterator[Path]:
    """A cgroup of 48M for containers to be put below."""
    trees = cgroup_tree.trees()
    tree = trees.v1.get("memory", trees.v2)
    if tree is None:
        pytest.skip("needs the controller: memory")
    group = Path(tree.mount) / f"pyminicon_test-parent-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.max" if tree.v2 else "memory.limit_in_bytes")).write_text("48M")
        yield group
    finally:
        groups.remove(group)


@pytest.mark.parametrize("more", [{}, {"memory": "200M"}], ids=["alone", "beside another limit"])
def test_the_limits_of_a_named_cgroup_hold(parent: Path, more: dict[str, Any]) -> None:
    for name in (str(parent), f"/{parent.name}"):
        # A hog with little of itself on disk: one that has to be read in again and again isn't killed for long.
        r = pyminicon.run(["tail", "/dev/zero"], cgroup_parent=name, init=True, timeout=60, **more)
        assert r.returncode == -9
        with pyminicon.start(["sleep", "60"], cgroup_parent=name, **more) as box:
            assert any(
                (entry / "cgroup.procs").read_text().split() == [str(box.pid)] for entry in children(parent)
            )
        assert children(parent) == []


def children(group: Path) -> list[Path]:
    return [entry for entry in group.iterdir() if entry.is_dir()]


# Processes


def test_a_fork_bomb_stops_at_its_limit_and_leaves_no_process() -> None:
    needs_limit("pids", 32)
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    most = 0

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, len(in_namespace(namespace)))

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    with pyminicon.start(python(bomb), image="python", pids=32, wall_time=4) as box:
        namespace = os.readlink(f"/proc/{box.pid}/ns/pid")
        watcher.start()
        box.wait()
        done.set()
        watcher.join()
    assert box.limit == "wall_time"
    assert box.usage.pids_peak is None or box.usage.pids_peak == 32
    assert 8 < most <= 32
    assert not in_namespace(namespace)
    assert ours() == []


def test_a_refused_fork_is_an_error_inside() -> None:
    needs_limit("pids", 3)
    line = "sleep 5 & sleep 5 & sleep 5 & wait"
    result = pyminicon.run(["sh", "-c", line], pids=3, capture_output=True, text=True)
    assert "fork" in result.stderr.lower()
    assert result.returncode != 0
    assert pyminicon.run(["sh", "-c", "true & wait"], pids=3).returncode == 0


# Processors


def test_the_cpu_quota_is_kept_on_two_busy_threads() -> None:
    needs_limit("cpus", 0.5)
    # One period's slice is 0.05 s. An emulated processor is charged for time in which it stood still.
    slack = 0.5 if "QEMU TCG" in Path("/proc/cpuinfo").read_text() else 0.05
    for _ in range(10):
        result = pyminicon.run(python(BUSY), image="python", cpus=0.5, usage=True, wall_time=3)
        assert result.limit == "wall_time"
        assert result.usage.user is not None and result.usage.system is not None
        used = result.usage.user + result.usage.system
        assert used <= 0.5 * result.usage.wall * 1.05 + slack
        if used >= 0.5 * result.usage.wall * 0.4:
            break  # else others work on this machine, too
    else:
        raise AssertionError(f"it never got what it may have: {used} s of {result.usage.wall}")


def test_a_cpuset_is_what_the_container_may_run_on() -> None:
    needs_limit("cpuset", "0")
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    for cpuset in {"0", str(max(os.sched_getaffinity(0)))}:
        result = pyminicon.run(python(code), image="python", cpuset=cpuset, capture_output=True, text=True)
        assert result.stdout == f"[{cpuset}]\n"


def test_a_weight_arrives() -> None:
    needs_limit("cpu_weight", 50)
    line = "cat /sys/fs/cgroup/cpu.weight 2>/dev/null || cat /sys/fs/cgroup/cpu*/cpu.shares"
    shown = pyminicon.run(["sh", "-c", line], cpu_weight=50, capture_output=True, text=True).stdout
    assert shown.strip() in ("50", "512")


def test_cpu_time_is_that_of_the_whole_container() -> None:
    needs_limit("cpu_time", 60)
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    line = f"for i in 1 2 3 4 5 6 7 8 9 10; do {sys.executable} -c '{burn}'; done; sleep 30"
    result = pyminicon.run(["sh", "-c", line], image="python", cpu_time=0.8)
    assert (result.limit, result.returncode) == ("cpu_time", -signal.SIGKILL)
    assert result.usage.user is not None and result.usage.system is not None
    assert 0.8 <= result.usage.user + result.usage.system < 2
    idle = pyminicon.run(["sleep", "1.2"], cpu_time=0.8)
    assert (idle.limit, idle.returncode) == (None, 0)


# Accounting


@pytest.mark.parametrize("touched", [4, 40, 120])
def test_the_peak_of_memory_is_what_was_touched(place: None, touched: int) -> None:
    # The first to read a file of the image pays for its pages in the cache: the second is the measure.
    for _ in range(2):
        r = pyminicon.run(python("x = bytearray(1)"), image="python", usage=True)
    base = r.usage.memory_peak
    code = f"x = bytearray({touched} << 20)"
    peak = pyminicon.run(python(code), image="python", usage=True).usage.memory_peak
    if peak is None or base is None:
        assert "memory" not in cgroup_tree.trees().v1 and kernel() < (5, 19)
        return
    assert abs(peak - base - touched * MEBI) <= max(0.05 * touched * MEBI, MEBI)


def test_the_parents_size_is_never_reported() -> None:
    ballast = bytearray(200 * MEBI)
    for options in ({}, {"usage": True}):
        peak = pyminicon.run(["/bin/true"], **options).usage.memory_peak
        assert peak is None or peak < 20 * MEBI
    assert len(ballast) > 0


def test_without_limits_there_is_no_cgroup_and_what_is_unknown_is_none() -> None:
    with running(["sleep", "60"]) as container:
        assert ours() == []
        assert container.stats().memory is None
    usage = pyminicon.run(["/bin/true"]).usage
    assert (usage.memory_peak, usage.pids_peak, usage.io_read, usage.io_written) == (None, None, None, None)
    assert usage.wall > 0 and usage.user is not None and usage.system is not None


def test_a_container_that_is_counted_tells_its_own_time_or_none() -> None:
    """Never what its pid 1 has waited for alone: the processes of another cgroup's limit."""
    needs_limit("cpus", 0.5)
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    line = (
        f"({sys.executable} -c '{burn}' && touch /tmp/done &) ; while [ ! -e /tmp/done ]; do sleep 0.05; done"
    )
    usage = pyminicon.run(["sh", "-c", line], image="python", cpus=0.5).usage
    assert (usage.user is None) == (usage.system is None)
    assert usage.user is None or usage.user + (usage.system or 0) > 0.29
    with pyminicon.start(["sleep", "60"], cpus=0.5) as box:
        assert box.usage.user is None or box.usage.user < 1
    assert (box.usage.user is None) == (usage.user is None)


def test_of_a_container_without_a_cgroup_nothing_is_known_until_it_has_ended() -> None:
    with pyminicon.start(["sleep", "60"]) as box:
        assert (box.usage.user, box.usage.system) == (None, None)
    assert box.usage.user is not None and box.usage.system is not None


def test_time_of_orphans_counts(place: None) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    line = (
        f"({sys.executable} -c '{burn}' && touch /tmp/done &) ; while [ ! -e /tmp/done ]; do sleep 0.05; done"
    )
    usage = pyminicon.run(["sh", "-c", line], image="python", usage=True).usage
    assert usage.user is not None and usage.system is not None
    assert usage.user + usage.system > 0.29


def test_the_peak_of_processes_is_told(place: None) -> None:
    line = "sleep 1 & sleep 1 & sleep 1 & wait"
    peak = pyminicon.run(["sh", "-c", line], usage=True).usage.pids_peak
    assert peak is None or peak == 4
    assert peak is not None or kernel() < (6, 11)


def test_accounting_is_not_worth_a_failure() -> None:
    assert pyminicon.run(["/bin/true"], usage=True).returncode == 0  # also without a tree to write to


# Seen from inside


def test_a_container_sees_its_own_cgroup_and_can_not_write_to_it(place: None) -> None:
    line = """
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null
        for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
            [ -e $file ] && echo 1000000000 >$file && echo WRITTEN
        done 2>/dev/null
        mkdir /sys/fs/cgroup/a /sys/fs/cgroup/memory/a 2>/dev/null && echo MADE
        for file in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
            [ -e $file ] && echo 0 >$file && echo MOVED
        done 2>/dev/null
        grep -E 'memory|^0::' /proc/self/cgroup
        true
    """
    shown = pyminicon.run(["sh", "-c", line], memory="64M", capture_output=True, text=True).stdout.split("\n")
    assert shown[0] == str(64 * MEBI)
    assert all(line.endswith(":/") for line in shown[1:] if line)
    assert len(shown) > 2


# What is left behind


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["/bin/true"], {}),
        (["/bin/sh", "-c", "kill -9 $$"], {}),
        (["/bin/sh", "-c", "kill -9 $$"], {"init": True}),
        (["/bin/sh", "-c", "(setsid sleep 60 &) ; exit 3"], {}),
        (["/bin/sh", "-c", "sleep 60 & sleep 60"], {"wall_time": 0.2}),
        (["/bin/sh", "-c", "(setsid sleep 60 &) ; sleep 60"], {"pid": "host", "wall_time": 0.2}),
        (["/bin/sh", "-c", "(setsid sleep 60 &) ; exit 3"], {"pid": "host"}),
    ],
    ids=repr,
)
def test_no_cgroup_is_left_when_run_returns(place: None, args: list[str], options: dict[str, Any]) -> None:
    pyminicon.run(args, memory="64M", pids=50, cpus=0.5, usage=True, **options)
    assert ours() == []


def test_no_cgroup_is_left_of_a_launch_that_failed(place: None) -> None:
    with pytest.raises(pyminicon.LaunchError):
        pyminicon.run(["/no/such/program"], memory="64M", pids=50, cpus=0.5)
    assert ours() == []


def test_a_dead_owners_cgroups_are_swept_and_a_living_ones_are_not(place: None) -> None:
    code = """
        import pyminicon, sys, time
        from pyminicon.cgroups import sweep as cgroup_sweep
        c = pyminicon.start(["sleep", "1000"], read_only=True, memory="64M", pids=50)
        print(cgroup_sweep.owner(), flush=True)
        time.sleep(1000)
    """
    sweep = "import pyminicon; pyminicon.run(['/bin/true'], pids=50)"

    def left(owner: str) -> int:
        places = {path.rpartition("/")[0] for path in there}
        return sum(name.startswith(owner) for path in places for name in os.listdir(path))

    owners = [subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        names = [owner.stdout.readline().strip() for owner in owners if owner.stdout]
        there = [
            f"{above}/{name}"
            for tree in cgroup_tree.trees().all()
            for above in cgroup_tree.chain(tree, cgroup_tree.caller_directory(tree))
            for name in os.listdir(above)
            if name.startswith(tuple(names))
        ]
        assert left(names[0]) and left(names[1])
        owners[0].kill()
        owners[0].wait()
        subprocess.run(python(sweep), check=True, timeout=60)
        assert soon(lambda: left(names[0]) == 0, 20)  # its guards may be at it as well
        assert left(names[1])
    finally:
        for owner in owners:
            owner.kill()
            owner.communicate()
        subprocess.run(python(sweep), check=True, timeout=60)
    assert soon(lambda: left(names[1]) == 0, 20)


def test_what_a_dead_owner_left_running_is_killed_first(place: None) -> None:
    plan = cgroups.plan(cgroups.check(memory="64M"))
    assert plan is not None
    parent = os.fsdecode(plan[1][0][0])
    *who, _ = cgroup_sweep.owner().split("-")
    left = f"{parent}/{'-'.join([*who, '1', '1'])}"  # our pid, but of a process that started long ago
    os.mkdir(left)
    os.mkdir(f"{left}/below")
    process = subprocess.Popen(["sleep", "1000"])
    try:
        Path(f"{left}/cgroup.procs").write_text(str(process.pid))
        # Another program that uses limits may sweep it, and there may be more of other programs that have died.
        assert left in cgroup_sweep.sweep_directory(parent, patience=20) or not os.path.exists(left)
        assert process.wait(10) == -signal.SIGKILL
        assert not os.path.exists(left)
    finally:
        process.kill()
        process.wait()


def test_many_threads_get_their_own(place: None) -> None:
    ends: list[Any] = []

    def work(number: int) -> None:
        for _ in range(4):
            result = pyminicon.run(["sh", "-c", f"exit {number}"], memory="64M", pids=20)
            ends.append(result.returncode == number and result.limit is None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [True] * 64
    assert ours() == []


# While it runs


COUNT = "import sys, time\ni = 0\nwhile True:\n  i += 1\n  print(i, flush=True)\n  time.sleep(0.01)"


@pytest.mark.parametrize("options", [{"usage": True}, {"memory": "64M"}, {"pids": 20}], ids=repr)
def test_a_frozen_container_stands_still_and_goes_on(place: None, options: dict[str, Any]) -> None:
    if not options.get("usage"):
        needs_limit(*next(iter(options.items())))
    with running(python(COUNT), image="python", stdout=subprocess.PIPE, **options) as container:
        stream = container.stdout
        assert stream is not None
        os.set_blocking(stream.fileno(), False)

        def moves(within: float) -> bool:
            deadline = time.monotonic() + within
            while time.monotonic() < deadline:
                if stream.read(65536):
                    return True
                time.sleep(0.02)
            return False

        assert moves(20)
        container.freeze()
        while stream.read(65536):
            pass
        assert not moves(0.3)
        container.thaw()
        assert moves(20)
        container.freeze()
    assert ours() == []  # what is frozen can be killed


def test_without_a_cgroup_freezing_is_an_error_that_helps() -> None:
    with running(["sleep", "60"]) as container, pytest.raises(pyminicon.LaunchError, match="usage=True"):
        container.freeze()


def test_limits_change_while_it_runs(place: None) -> None:
    code = "import sys\nfor line in sys.stdin:\n  x = bytearray(int(line) << 20); print(len(x), flush=True)"
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with running(python(code), image="python", memory="32M", **options) as container:
        assert container.stdin is not None and container.stdout is not None

        def ask(mebi: int) -> str:
            container.stdin.write(f"{mebi}\n")
            container.stdin.flush()
            return container.stdout.readline()

        container.update(memory="128M")
        assert ask(64) == f"{64 * MEBI}\n"
        for bad in ({"memory": "0"}, {"cpus": 0}, {"memory_swap": "1G"}):
            with pytest.raises(pyminicon.SpecError):
                container.update(**bad)
        if "pids" in cgroup_tree.trees().v1:  # v2 has one directory for all
            with pytest.raises(pyminicon.LaunchError, match="without a limit of this kind"):
                container.update(pids=5)
        assert ask(1) == f"{MEBI}\n"
        container.update(memory="24M")
        assert ask(64) == ""
        assert container.wait(30) == -signal.SIGKILL
        assert container.limit == "memory"


def test_stats_tell_of_this_moment(place: None) -> None:
    code = "x = bytearray(30 << 20); print('up', flush=True); import time; time.sleep(60)"
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "usage": True, "memory": "128M"}
    with running(python(code), image="python", **options) as container:
        assert container.stdout is not None and container.stdout.readline() == b"up\n"
        stats = container.stats()
        assert 30 * MEBI < stats.memory < 60 * MEBI
        assert stats.pids == 1
        assert stats.user + stats.system > 0


@pytest.mark.parametrize("limit", [{"memory": "64M"}, {"cpus": 0.5}, {"cpuset": "0"}], ids=repr)
def test_every_controller_that_a_runtime_looks_for_is_a_directory_of_its_own(
    limit: dict[str, Any], needs_root: None
) -> None:
    """The JVM wants all four of v1's, and Go, .NET and libuv theirs, or they see this machine's size."""
    if not any(" - cgroup cgroup " in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        pytest.skip("needs cgroup v1")
    script = """
        for name in memory cpu cpuacct cpuset; do
            grep -q " /sys/fs/cgroup/[a-z,]*$name[a-z,]* ro,.* - cgroup " /proc/self/mountinfo || echo no mount: $name
            [ $name = cpu ] || grep -qx $$ /sys/fs/cgroup/$name/cgroup.procs || echo not in it: $name
            grep -q "[:,]$name[a-z,]*:/$" /proc/self/cgroup || echo elsewhere: $name
        done
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpuset/cpuset.cpus
    """
    for more in ({}, {"user": "1000"}, {"userns": "private"}, {"init": True}):
        pid = "2" if more.get("init") else "$$"
        said = out(script.replace("$$", pid), **limit, **more).splitlines()
        assert len(said) == 3, said
        assert (said[0] == "67108864") == ("memory" in limit)
        assert said[1] == ("50000" if "cpus" in limit else "-1")
        assert (said[2] == "0") or "cpuset" not in limit


def test_what_containers_share_on_v1_is_made_once_and_has_what_the_caller_has(needs_root: None) -> None:
    code = """
        import os, pyminicon
        from pyminicon.cgroups import sweep, tree
        shown = ["sh", "-c", "cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpu/cpu.shares; "
                 "cat /sys/fs/cgroup/cpuset/cgroup.procs /sys/fs/cgroup/cpu/cgroup.procs >/tmp/in; wc -l </tmp/in"]
        group = f"{tree.trees().v1['cpuset'].mount}/{sweep.owner()}-0"
        say = lambda: print(*pyminicon.run(shown, memory="64M", capture_output=True, text=True).stdout.split())
        with pyminicon.start(["sleep", "60"], memory="64M"):
            say()
            inode = os.stat(group).st_ino
            if len(os.sched_getaffinity(0)) > 1:
                box = pyminicon.start(["sleep", "60"], memory="64M", cpuset="0")
                box.kill(); box.wait(); box.close()
            say()
        open(f"{group}/cpuset.cpus", "w").write("0")  # as when a processor has been taken away and given back
        say()
        assert os.stat(group).st_ino == inode
        print(open(f"{group}/cgroup.procs").read().split())
    """
    tree = cgroup_tree.trees().v1.get("cpuset")
    if tree is None or (tree.root, tree.caller, tree.controllers) != ("/", "/", ["cpuset"]):
        pytest.skip("needs cgroup v1, and to be in its topmost cpuset")
    have = (Path(tree.mount) / "cpuset.cpus").read_text().strip()
    done = subprocess.run(python(code), capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == [*[f"{have} 1024 2"] * 3, "[]"], done.stderr


@pytest.mark.parametrize("more", [{"cap_add": ["SYS_ADMIN"]}, {"seccomp": "unconfined"}], ids=repr)
def test_whoever_might_mount_a_cgroup_shares_none(more: dict[str, Any], needs_root: None) -> None:
    if "cpuset" not in cgroup_tree.trees().v1:
        pytest.skip("needs cgroup v1")
    pyminicon.run(["true"], memory="64M")
    groups = {os.stat(path).st_ino for path in glob.glob(f"/sys/fs/cgroup/*/{cgroup_sweep.owner()}-0")}
    assert groups
    script = "stat -c %i /sys/fs/cgroup/cpu /sys/fs/cgroup/cpuset"
    for image in ("host", "/", "/"):  # the last has the plan of the one before it
        assert groups & {int(one) for one in out(script, image=image, memory="64M").split()}
    assert not groups & {int(one) for one in out(script, memory="64M", **more).split()}


@pytest.fixture
def killed(needs_root: None) -> Iterator[Path]:
    """A cgroup v2 that was killed as a whole once, which the kernel remembers."""
    tree = cgroup_tree.trees().v2
    if tree is None:
        pytest.skip("needs cgroup v2")
    group = Path(tree.mount) / f"pyminicon_test-killed-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        (group / "cgroup.kill").write_text("1")
        yield group
    finally:
        groups.remove(group)


@pytest.mark.parametrize("inside", [True, False], ids=["the caller is in it", "the container is"])
def test_a_cgroup_that_was_killed_once_still_takes_containers(killed: Path, inside: bool) -> None:
    code = f"""
        import pyminicon
        if {inside}:
            open("{killed}/cgroup.procs", "w").write("0")
            options = dict(usage=True)
        else:
            # Born into a child of it: that one is new, but it is killed as well, with its container in it.
            c = pyminicon.start(["sleep", "60"], cgroup_parent="/{killed.name}")
            open("{killed}/cgroup.kill", "w").write("1"); c.wait(); c.close()
            options = dict(cgroup_parent="/{killed.name}")
        print([pyminicon.run(["true"], **options).returncode for _ in range(3)])
        with pyminicon.Template(**options) as t:
            print(t.run(["true"]).returncode)
    """
    done = subprocess.run(python(code), capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "[0, 0, 0]\n0\n", done.stderr
