"""The cgroup of a command is the next one's where nothing of it is left, and no figure or verdict tells of both."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import DEVNULL, PIPE
from tests.living.conftest import names, stops_while_frozen
from tests.living.test_memory import HOG, limited
from tests.support.waiting import soon

SPARES = 16  # that a container keeps at most: used next, resting, and that of whoever waits for a command
TREES = Path("/sys/fs/cgroup")


_SPIN = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"


def groups(owner: int | None = None) -> set[Path]:
    """Of commands of all containers of this process, in all trees."""
    found = subprocess.run(
        ["find", TREES, "-path", f"*-{owner or os.getpid()}-*/command-*", "-type", "d"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {Path(line) for line in found.stdout.split()}


def numbers() -> set[str]:
    return {path.name for path in groups()}


def name_in(text: str) -> str:
    (name,) = {row.rpartition("/")[2] for row in text.split() if "/command-" in row}
    return name


def place_of(c: Any) -> str:
    """The name of a command's cgroup, while it runs."""
    with c.start(["cat"], stdin=PIPE, stdout=DEVNULL) as p:
        name = name_in(Path(f"/proc/{p.host_pid}/cgroup").read_text())
        p.communicate(b"", timeout=30)
    return name


@limited
@pytest.mark.parametrize("own", [{"memory": "64M"}, {"cpus": 0.5, "memory": "64M"}], ids=str)
def test_a_command_is_in_the_cgroup_of_one_that_left_nothing(own: dict[str, Any]) -> None:
    with pyminicon.start(**own) as c:
        places = [place_of(c) for _ in range(12)]
        assert len(set(places)) < len(places)
        assert numbers() <= set(places) and len(numbers()) <= SPARES
    assert groups() == set()


@limited
def test_commands_at_once_are_in_different_ones() -> None:
    with pyminicon.start(memory="64M") as c:
        c.run(["true"])
        with c.start(["sleep", "300"]) as a, c.start(["sleep", "300"]) as b:
            first, second = (Path(f"/proc/{p.host_pid}/cgroup").read_text() for p in (a, b))
            assert first != second
            a.kill()
            assert a.wait(30) == -9 and b.poll() is None
            assert c.run(["true"]).returncode == 0 and b.poll() is None


@limited
@pytest.mark.parametrize("own", [{"memory": "64M"}, {"usage": True}], ids=str)
def test_none_is_where_another_has_left_processes(own: dict[str, Any]) -> None:
    with pyminicon.start(**own) as c:
        for turn in range(4):
            c.run(["sh", "-c", "setsid sleep 300 & exit 0"])
            assert soon(lambda turn=turn: names(c) == ["sleep"] * (turn + 1))  # type: ignore[misc]
            with pytest.raises(pyminicon.TimeoutExpired):
                c.run(["sleep", "301"], timeout=0.1)
            assert names(c) == ["sleep"] * (turn + 1)


@limited
def test_none_is_where_somebody_was_killed() -> None:
    with pyminicon.start(image="python", memory="64M") as c:
        for end in (lambda p: p.kill(), lambda p: p.communicate(b"\n", timeout=60)):
            hog = f"import sys; sys.stdin.readline()\n{HOG[-1]}"
            with c.start(["python", "-c", hog], stdin=PIPE, stderr=DEVNULL) as p:
                place = name_in(Path(f"/proc/{p.host_pid}/cgroup").read_text())
                end(p)
                assert p.wait(60) == -9
            assert c.run(["true"]).limit is None
            assert place not in numbers()


@limited
def test_a_verdict_is_of_the_command_it_happened_in_only() -> None:
    """The page cache that one leaves counts in the container's limit, and ends nobody who uses little."""
    with pyminicon.start(image="python", memory="64M") as c:
        for _ in range(5):
            r = c.run(["sh", "-c", "head -c 30M /dev/zero > /tmp/left"])
            assert (r.returncode, r.limit) == (0, None)
            for _ in range(3):
                r = c.run(["python", "-c", "bytearray(8 << 20)"])
                assert (r.returncode, r.limit) == (0, None)
        assert c.run(HOG, timeout=60, stderr=DEVNULL).limit == "memory"
        assert c.run(["true"]).limit is None


@limited
def test_the_memory_that_one_has_used_or_left_is_no_other_ones() -> None:
    with pyminicon.start(image="python", memory="256M") as c:
        for _ in range(4):
            hog = c.run(["python", "-c", "bytearray(60 << 20)"])
            after_it = c.run(["true"])
            leaves = c.run(["sh", "-c", "head -c 30M /dev/zero > /tmp/left"])
            after_that = c.run(["true"])
            peaks = [r.usage.memory_peak for r in (hog, after_it, leaves, after_that)]
            if None in peaks:
                pytest.skip("needs a kernel that tells the peak of memory (v2: Linux 5.19)")
            assert peaks[0] > 60 << 20 and peaks[2] > 30 << 20
            assert max(peaks[1], peaks[3]) < 8 << 20


@limited
def test_beside_v1_no_command_is_in_a_cgroup_of_v2() -> None:
    """To join one there waits for a lock; what counts and what kills is v1's."""
    if not (TREES / "cpuacct/tasks").exists():
        pytest.skip("needs cgroup v1")
    with pyminicon.start(usage=True) as c:
        c.run(["true"])
        with c.start(["sh", "-c", "while :; do sleep 0.01 & done"], stdout=DEVNULL, stderr=DEVNULL) as p:
            rows = Path(f"/proc/{p.host_pid}/cgroup").read_text().splitlines()
            assert [row for row in rows if row.startswith("0::") and "/command-" in row] == []
            assert [row for row in rows if ":cpuacct:" in row and "/command-" in row] != []
            p.kill()
            assert p.wait(30) == -9
        assert soon(lambda: names(c) == [])
        usage = c.run(["sh", "-c", _SPIN]).usage
        assert usage.user is not None and usage.user + (usage.system or 0) > 0.02
    assert groups() == set()


@limited
def test_one_that_holds_files_is_not_kept_for_long() -> None:
    with pyminicon.start(memory="256M") as c:
        with c.start(["sh", "-c", "read x; head -c 30M /dev/zero > /tmp/left"], stdin=PIPE) as p:
            place = name_in(Path(f"/proc/{p.host_pid}/cgroup").read_text())
            p.communicate(b"\n", timeout=60)
        assert c.run(["true"]).returncode == 0
        time.sleep(0.2)
        with c.start(["sleep", "300"]) as other:  # in the one that has been used last
            assert c.run(["true"]).returncode == 0
            assert place not in numbers()
            other.kill()


@limited
def test_in_a_tight_loop_the_same_ones_are_used() -> None:
    """What the kernel frees after a grace period only stops nobody for good."""
    with pyminicon.start(memory="256M") as c:
        used: set[str] = set()
        for _ in range(200):
            c.run(["true"])
            used |= numbers() if len(used) < 100 else set()
        assert len(used) < 100 and len(numbers()) <= SPARES
    assert groups() == set()


_BUSY = "import time; t = time.process_time() + .2\nwhile time.process_time() < t: pass"


@limited
def test_the_processor_time_that_one_has_used_is_no_other_ones() -> None:
    with pyminicon.start(image="python", usage=True) as c:
        for _ in range(3):
            busy, after = c.run(["python", "-c", _BUSY]), c.run(["true"])
            assert busy.usage.user + busy.usage.system >= 0.2
            assert 0 < after.usage.user + after.usage.system < 0.1


@limited
def test_a_limit_of_processor_time_counts_from_the_commands_own_beginning() -> None:
    with pyminicon.start(image="python", usage=True) as c:
        for _ in range(6):
            r = c.run(["python", "-c", _BUSY], cpu_time=5, timeout=60)
            assert (r.returncode, r.limit) == (0, None)
        assert c.run(["sh", "-c", "while :; do :; done"], cpu_time=0.3, timeout=60).limit == "cpu_time"
        r = c.run(["true"], cpu_time=0.3)
        assert (r.returncode, r.limit) == (0, None)


@limited
def test_the_processes_and_bytes_of_one_are_no_other_ones(tmp_path: Path) -> None:
    write = (
        "import os\nf = os.open('/out/x', os.O_WRONLY | os.O_CREAT)\nos.write(f, bytes(1 << 22))\nos.fsync(f)"
    )
    with pyminicon.start(image="python", usage=True, volumes=[f"{tmp_path}:/out"]) as c:
        for _ in range(3):
            c.run(["sh", "-c", "sleep 0.01 & sleep 0.01 & sleep 0.01 & wait"])
            c.run(["python", "-c", write])
            after = c.run(["true"]).usage
            assert after.pids_peak in (None, 1)
            assert (after.io_written or 0) < 1 << 22


@limited
def test_a_freezer_that_is_made_later_holds_every_command() -> None:
    with pyminicon.start(memory="64M") as c:
        for _ in range(3):
            c.run(["true"])
        c.freeze()
        c.thaw()
        with c.start(["sh", "-c", "while echo x; do sleep 0.01; done"], stdout=PIPE) as p:
            stops_while_frozen(c, p)


@limited
def test_a_changed_limit_holds_in_one_that_is_used_again() -> None:
    with pyminicon.start(image="python", memory="256M") as c:
        for _ in range(3):
            c.run(["true"])
        c.update(memory="64M")
        r = c.run(["python", "-c", "bytearray(128 << 20)"], stderr=DEVNULL)
        assert (r.returncode, r.limit) == (-9, "memory")


def at_once(c: Any, count: int) -> list[Any]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(c.run(["sleep", "0.1"]))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@limited
@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_of_many_at_once_a_few_are_kept(count: int) -> None:
    with pyminicon.start(memory="256M") as c:
        for _ in range(2):
            results = at_once(c, count)
            assert [(r.returncode, r.limit) for r in results] == [(0, None)] * count
            assert len(numbers()) <= SPARES
            assert names(c) == []
    assert groups() == set()


_OWNER = """
import os, signal, pyminicon
c = pyminicon.start(memory="64M")
for _ in range(3):
    c.run(["true"])
p = c.start(["sleep", "300"])
print("up", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@limited
def test_of_an_owner_that_was_killed_the_next_one_removes_them() -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=PIPE, cwd="/")
    with owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
        assert owner.wait(30) == -9

    def gone() -> bool:
        script = "import pyminicon; pyminicon.run(['true'], memory='64M')"
        subprocess.run([sys.executable, "-c", script], check=True, cwd="/")
        return groups(owner.pid) == set()

    assert soon(gone, 30)
