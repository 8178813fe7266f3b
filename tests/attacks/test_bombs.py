"""Bombs, each bounded by the limit that is there for it; the host goes on."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.cgroups import tree as cgroup_tree
from tests.support import groups
from tests.support.python import fresh

Run = Callable[..., Any]


def test_a_fork_bomb_is_bounded(hostile: Run, inside: Run, needs_root: None) -> None:
    assert 0 < hostile("forks", 500, pids=40)["made"][0] < 40
    assert hostile("forks", 100, pids=200)["made"][0] == 100
    r = inside(["sh", "-c", "b() { b | b & }; b; sleep 0.3; echo end"], pids=30, timeout=60, init=True)
    assert r.returncode != 0 or r.stdout == "end\n"


@pytest.mark.parametrize("kind", ["anonymous", "memfd", "mlock"])
def test_a_memory_bomb_ends_the_container_and_says_so(
    kind: str, inside: Run, attack: Path, needs_root: None
) -> None:
    options: dict[str, Any] = {"volumes": [f"{attack}:/attack:ro"], "memory": "32M"}
    r = inside(["/attack", "memory", kind, "100"], **options)
    assert r.returncode != 0 and "survived" not in r.stdout
    assert r.limit == "memory" or kind == "mlock"  # RLIMIT_MEMLOCK may come first
    assert inside(["/attack", "memory", kind, "4"], **options).stdout == "survived\n"


def test_files_in_memory_count_and_are_bounded(inside: Run, needs_root: None) -> None:
    for place in ("/tmp", "/dev/shm", "/root"):
        r = inside(["sh", "-c", f"head -c 200M /dev/zero > {place}/big; echo end"], memory="48M")
        assert r.limit == "memory" or "No space" in r.stderr, (place, r)
    assert inside(["sh", "-c", "head -c 10M /dev/zero > /tmp/big; echo end"], memory="48M").stdout == "end\n"


def test_pipe_buffers_count(inside: Run, attack: Path, needs_root: None) -> None:
    options: dict[str, Any] = {"volumes": [f"{attack}:/attack:ro"], "memory": "16M", "user": "0"}
    r = inside(["/attack", "pipes", "2000"], rlimits={"nofile": (5000, 5000)}, **options)
    assert r.limit == "memory" and "survived" not in r.stdout
    assert inside(["/attack", "pipes", "20"], **options).stdout == "survived\n"


def test_a_descriptor_bomb_is_bounded(inside: Run) -> None:
    script = "import os\nn=0\ntry:\n while n < 5000: os.dup(0); n += 1\nexcept OSError as e: print(e.errno, n < 256)"
    assert (
        inside(["python", "-c", script], image="python", rlimits={"nofile": (256, 256)}).stdout == "24 True\n"
    )
    assert (
        inside(
            ["python", "-c", script + "\nprint('all')"], image="python", rlimits={"nofile": (6000, 6000)}
        ).stdout
        == "all\n"
    )


def test_an_inode_bomb_is_bounded(inside: Run) -> None:
    script = "import os\ntry:\n for i in range(3000): open(f'/data/{i}', 'w').close()\n print('all')\nexcept OSError as e: print(e.errno)"
    assert inside(["python", "-c", script], image="python", tmpfs=["/data:nr_inodes=1000"]).stdout == "28\n"
    roomy = inside(["python", "-c", script], image="python", tmpfs=["/data:nr_inodes=5000"])
    assert roomy.stdout == "all\n"
    # The private layer has a bound of its own: a tmpfs without one takes half the machine's memory in inodes.
    assert "nr_inodes=" in inside(["grep", " / ", "/proc/self/mountinfo"]).stdout


QUEUE = """
import ctypes, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
libc, n = ctypes.CDLL(None, use_errno=True), 0
while n < 4000 and libc.sigqueue(os.getpid(), signal.SIGRTMIN, None) == 0: n += 1
print(n)
"""


def test_a_container_cannot_use_up_the_pending_signals_of_its_uid(inside: Run) -> None:
    assert 900 < int(inside(["python", "-c", QUEUE], image="python").stdout) <= 1024
    more = {"sigpending": (3000, 3000)}
    assert 2900 < int(inside(["python", "-c", QUEUE], image="python", rlimits=more).stdout) <= 3000


def test_a_container_cannot_use_up_the_message_queues_of_its_uid(inside: Run) -> None:
    script = "n=0; while [ $n -lt 50 ] && (: > /dev/mqueue/$n) 2>/dev/null; do n=$((n+1)); done; echo $n"
    # The kernel counts a uid's queues of all containers, and frees an ended one's (an IPC namespace) a moment later.
    few, deadline = 0, time.monotonic() + 60
    while few < 2 and time.monotonic() < deadline:
        few = int(inside(["sh", "-c", script]).stdout)
    assert 2 <= few < int(inside(["sh", "-c", script], rlimits={"msgqueue": (819200, 819200)}).stdout)


@pytest.mark.parametrize("place, most", [("/dev/shm", 65536), ("/data", 1 << 20)])
def test_a_file_system_in_memory_bounds_the_number_of_files(place: str, most: int, inside: Run) -> None:
    r = inside(["stat", "-f", "-c", "%c", place], tmpfs=["/data"])
    assert int(r.stdout) == most


COUNT = """
import ctypes
libc, n = ctypes.CDLL(None), 0
while n < 3000 and libc.inotify_init1(0) >= 0: n += 1
print(n, flush=True)
input()
"""


def test_inotify_is_counted_for_a_uid_and_another_uid_is_the_remedy(needs_root: None) -> None:
    """docs/security.md says so: a private user namespace isn't one."""
    libc = ctypes.CDLL(None)
    options: dict[str, Any] = {"stdin": pyminicon.PIPE, "stdout": pyminicon.PIPE, "rlimits": {"nofile": 4000}}
    for more, left in (({"user": "1000"}, True), ({"userns": "private"}, False), ({}, False)):
        with pyminicon.start(["python", "-c", COUNT], image="python", **options, **more) as box:
            assert box.stdout is not None and int(box.stdout.readline()) > 10
            fd = libc.inotify_init1(os.O_CLOEXEC)
        assert (fd >= 0) is left, more
        if fd >= 0:
            os.close(fd)


def test_an_output_flood_ends_the_container_and_not_the_caller(inside: Run) -> None:
    before = resident()
    r = inside(["sh", "-c", "exec cat /dev/zero"], max_output="1M", text=False)
    assert r.limit == "output" and len(r.stdout) <= 2 << 20
    assert resident() - before < 64 << 20
    r = inside(["sh", "-c", "head -c 500k /dev/zero"], max_output="1M", text=False)
    assert r.limit is None and len(r.stdout) == 500 << 10


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_time_bombs_end(inside: Run) -> None:
    begin = time.monotonic()
    r = inside(["sh", "-c", "trap '' TERM INT; while :; do :; done"], wall_time=0.5)
    assert r.limit == "wall_time" and r.returncode == -9 and time.monotonic() - begin < 15


@pytest.mark.parametrize(
    "number, arguments",
    [(144, (0, 1, "d:01000000")), (314, (0, "d:" + "30000000" + "06000000" + "00" * 40, 0))],
)
def test_real_time_scheduling_is_not_to_be_had(
    number: int, arguments: tuple[Any, ...], hostile: Run, outside: Run, needs_root: None
) -> None:
    assert hostile("sys", number, *arguments)["call"][0] == -1
    if number == 144:
        assert hostile("sys", number, *arguments, cap_add=["SYS_NICE"])["call"][1] in (0, 1)


def test_the_embedding_program_survives_its_containers_oom(needs_root: None) -> None:
    for _ in range(5):
        r = pyminicon.run(["python", "-c", "x = bytearray(200 << 20)"], image="python", memory="24M")
        assert r.limit == "memory"


@pytest.fixture
def group(needs_root: None) -> Iterator[Path]:
    """A cgroup with 64 MiB for all below it, which the kernel kills as one (memory.oom.group)."""
    tree = cgroup_tree.trees().v2
    if tree is None or "memory" not in (Path(tree.mount) / "cgroup.controllers").read_text().split():
        pytest.skip("needs cgroup v2")
    made = Path(tree.mount) / f"jobs-{os.getpid()}"
    (Path(tree.mount) / "cgroup.subtree_control").write_text("+memory")
    made.mkdir()
    (made / "memory.max").write_text(str(64 << 20))
    (made / "memory.oom.group").write_text("1")
    yield made
    groups.remove(made)


def test_the_embedding_program_survives_a_group_that_is_killed_as_one(group: Path) -> None:
    """A hog fills it while others are launched there: a child that borrowed the caller's memory would take the
    caller along."""
    code = f"""
import time, pyminicon
options = {{"cgroup_parent": "/{group.name}", "usage": True}}
killed, until = 0, time.monotonic() + 4
hog = ["python", "-c", "x = []\\nwhile True: x.append(bytearray(1 << 16))"]
while time.monotonic() < until:
    with pyminicon.start(hog, image="python", **options) as box:
        while box.poll() is None:
            try: pyminicon.run(["true"], **options)
            except pyminicon.LaunchError: pass  # it was killed with the rest
        killed += box.returncode == -9
print(killed > 0)
"""
    r = fresh(code)
    assert (r.returncode, r.stdout) == (0, "True\n"), r
    events = (group / "memory.events").read_text()
    assert "oom_group_kill 0" not in events


SCORES = (
    "f=/proc/self/oom_score_adj; cat $f; for n in -900 0 700; do { echo $n > $f; } 2>/dev/null; cat $f; done"
)


def may_lower_scores() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    return bool(int(next(line for line in lines if line.startswith("CapEff")).split()[1], 16) >> 24 & 1)


@pytest.mark.parametrize("options", [{}, {"init": True}, {"userns": "private"}, {"memory": "64M"}], ids=repr)
@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("callers", [0, 500, -500])
def test_the_oom_score_is_at_least_zero_and_cannot_be_lowered(
    callers: int, template: bool, options: dict[str, Any], needs_root: None
) -> None:
    """Without CAP_SYS_RESOURCE, the caller's own, the kernel lets it go back to where the caller could."""
    capable = may_lower_scores()
    if callers < 0 and not capable:
        pytest.skip("needs CAP_SYS_RESOURCE")
    how = f"with pyminicon.Template(stock=1, **{options}) as t: r = t.run(*words, **caught)"
    if not template:
        how = f"r = pyminicon.run(*words, **caught, **{options})"
    code = f"""
import os, pyminicon
with open("/proc/self/oom_score_adj", "w") as file: file.write("{callers}")
words, caught = [["sh", "-c", {SCORES!r}]], {{"capture_output": True, "text": True}}
{how}
print(*r.stdout.split(), open("/proc/self/oom_score_adj").read())
"""
    r = fresh(code)
    seen, below, zero, raised, after = map(int, r.stdout.split())
    assert seen == below == max(callers, 0) and raised == 700, r
    assert zero == (seen if capable else 0)
    assert after == callers  # the caller's own is what it was


def test_a_caller_before_others_does_not_put_its_containers_there(needs_root: None) -> None:
    """Real-time scheduling could hold the processors; a negative nice value is the caller's privilege."""
    code = """
import os, pyminicon
ask = ["python", "-c", "import os; print(os.sched_getscheduler(0), os.getpriority(0, 0))"]
def show(**options): print(pyminicon.run(ask, image="python", capture_output=True, text=True, **options).stdout.strip())
os.setpriority(os.PRIO_PROCESS, 0, {nice}); os.sched_setscheduler(0, os.{policy}, os.sched_param({priority}))
show(); show(init=True); show(userns="private")
with pyminicon.Template(image="python", stock=1) as t: print(t.run(ask, capture_output=True, text=True).stdout.strip())
"""
    for nice, policy, priority, seen in (
        (-5, "SCHED_OTHER", 0, "0 0"),
        (0, "SCHED_FIFO", 5, "0 0"),
        (-3, "SCHED_RR", 1, "0 0"),
        (10, "SCHED_FIFO", 5, "0 10"),
        (5, "SCHED_BATCH", 0, f"{os.SCHED_BATCH} 5"),  # what favours others stays
    ):
        r = fresh(code.format(nice=nice, policy=policy, priority=priority))
        assert r.stdout.splitlines() == [seen] * 4, (nice, policy, r)
