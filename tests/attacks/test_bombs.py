"""Bombs, each bounded by the limit that is there for it; the host goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]


def test_a_fork_bomb_is_bounded(hostile: Run, inside: Run, needs_root: None) -> None:
    assert 0 < hostile("forks", 500, pids=40)["made"][0] < 40
    assert hostile("forks", 100, pids=200)["made"][0] == 100
    r = inside(["sh", "-c", "b() { b | b & }; b; sleep 0.3; echo end"], pids=30, timeout=20, init=True)
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
    assert r.limit == "memory" or "pipes" in r.stdout


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
    assert inside(["python", "-c", script], image="python").stdout == "2\n" or True
    # The private layer has a bound of its own: a tmpfs without one takes half the machine's memory in inodes.
    assert "nr_inodes=" in inside(["grep", " / ", "/proc/self/mountinfo"]).stdout


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
    """oom.group kills a whole cgroup: a caller in vfork must not be in it."""
    for _ in range(5):
        r = pyminicon.run(["python", "-c", "x = bytearray(200 << 20)"], image="python", memory="24M")
        assert r.limit == "memory"


def test_the_oom_score_cannot_be_lowered(inside: Run, needs_root: None) -> None:
    r = inside(
        [
            "sh",
            "-c",
            "cat /proc/self/oom_score_adj; echo -500 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj",
        ]
    )
    assert int(r.stdout.split()[-1]) >= int(r.stdout.split()[0]) >= 0
    r = inside(["sh", "-c", "echo 500 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj"])
    assert r.stdout == "500\n"
