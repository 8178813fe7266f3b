"""The end of a command is the end of all that has come of it, and of nothing else."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import pyminicon
from pyminicon import PIPE
from tests.living.conftest import names
from tests.support.waiting import soon

Home = Any

#: Lineages that fork, call setsid and exit, without end: what one sees of them has gone when one has seen it. They
#: wait for each other, or who starts them would wait for a processor behind those that are there.
STORM = """
import os, sys
gate, lock = os.pipe()
for i in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.close(lock)
        os.read(gate, 1)
        while True:
            try:
                if os.fork():
                    os._exit(0)
                os.setsid()
            except OSError:
                pass
os.close(lock)
print("begun", flush=True)
import time
time.sleep(1000)
"""


def scattered() -> str:
    return "setsid sleep 71 & (setsid sh -c 'sleep 72 & exec sleep 73' &); (sleep 74 &); nohup sleep 75 >/dev/null 2>&1 & echo up; sleep 76"


@pytest.mark.parametrize("how", ["timeout", "kill", "close", "wall_time", "output"])
def test_every_way_of_ending_it_ends_every_process(home: Home, how: str) -> None:
    if how == "timeout":
        with pytest.raises(pyminicon.TimeoutExpired):
            home.run(["sh", "-c", scattered()], timeout=0.4, capture_output=True)
    elif how in ("wall_time", "output"):
        limits: dict[str, Any] = {"wall_time": 0.4} if how == "wall_time" else {"max_output": 1}
        assert home.run(["sh", "-c", scattered()], capture_output=True, **limits).limit == how
    else:
        with home.start(["sh", "-c", scattered()], stdout=PIPE) as p:
            assert p.stdout.readline() == b"up\n"
            if how == "kill":
                p.kill()
                assert p.wait(10) == -9
    assert names(home) == []


def test_the_others_go_on(home: Home) -> None:
    home.run(["sh", "-c", "sleep 500 &"])
    with home.start(["sh", "-c", "while echo tick; do sleep 0.02; done"], stdout=PIPE) as other:
        stopped = home.start(["sleep", "600"])
        stopped.send_signal(19)
        for _ in range(3):
            with pytest.raises(pyminicon.TimeoutExpired):
                home.run(["sh", "-c", "sleep 100 & sleep 100"], timeout=0.1)
        for _ in range(20):
            assert other.stdout.readline() == b"tick\n"
        state = home.run(["cat", f"/proc/{stopped.pid}/stat"], capture_output=True).stdout.split()[2]
        assert state == b"T"  # who was stopped by somebody else stays so
        assert names(home).count("sleep") in (2, 3)
        stopped.kill()
        assert stopped.wait(10) == -9


def test_a_first_process_that_has_ended_leaves_its_children_alone(home: Home) -> None:
    p = home.start(["sh", "-c", "sleep 500 & exit 3"])
    assert p.wait(10) == 3
    p.kill()
    p.close()
    assert soon(lambda: names(home) == ["sleep"])


def test_a_hundred_quiet_processes_end_at_once(home: Home) -> None:
    script = "i=0; while [ $i -lt 100 ]; do sleep 400 & i=$((i+1)); done; echo up; wait"
    with home.start(["sh", "-c", script], stdout=PIPE) as p:
        assert p.stdout.readline() == b"up\n"
        begun = time.monotonic()
        p.kill()
        assert p.wait(10) == -9
        assert time.monotonic() - begun < 20  # 10 ms on a machine alone, 2 s on an emulated one
    assert names(home) == []


def test_what_lies_still_ends_without_a_halt_of_the_others(home: Home) -> None:
    heard = "trap 'echo went on' CONT; echo up; while read line; do echo $line; done"
    with home.start(["bash", "-c", heard], stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout.readline() == b"up\n"
        for _ in range(200):  # whoever is slow to die, on a busy machine, has the others stopped
            with home.start(["sleep", "300"]) as p:
                p.kill()
                assert p.wait(30) == -9
            other.stdin.write(b"told\n")
            other.stdin.flush()
            lines = [other.stdout.readline()]
            while lines[-1] != b"told\n":
                lines.append(other.stdout.readline())
            if len(lines) == 1:
                return
    raise AssertionError("each time")


def storm(c: Any, lineages: int) -> float:
    """Seconds that the end of a storm of so many took, of which nobody is left."""
    with c.start(["python", "-c", STORM, str(lineages)], stdout=PIPE) as p:
        assert p.stdout.readline() == b"begun\n"
        time.sleep(0.1)
        begun = time.monotonic()
        p.kill()
        assert p.wait(60) == -9
        took = time.monotonic() - begun
    assert names(c) == [] and c.poll() is None
    return took


@pytest.mark.parametrize("lineages", [1, 64])
def test_a_storm_of_lineages_leaves_nobody(lineages: int) -> None:
    with pyminicon.start(image="python", rlimits={"nofile": 256}) as c:
        took = sorted(storm(c, lineages) for _ in range(3))
    assert took[0] < 5  # 0.05 s on a machine alone


@pytest.mark.slow
@pytest.mark.parametrize("own", [{}, {"pids": 2000}])
def test_five_hundred_lineages_leave_nobody_again_and_again(own: Any) -> None:
    if own and os.geteuid() != 0:
        pytest.skip("needs root")
    with pyminicon.start(image="python", **own) as c:
        took = sorted(storm(c, 500) for _ in range(20))
    assert took[10] < 10  # 0.2 s on a machine alone


def test_a_process_whose_first_thread_has_ended_is_no_zombie() -> None:
    code = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(300,)).start(); print('up', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    with pyminicon.start(image="python") as c:
        with c.start(["sh", "-c", f'python -c "{code}" & sleep 300'], stdout=PIPE) as p:
            assert p.stdout is not None and p.stdout.readline() == b"up\n"
            time.sleep(0.1)
            p.kill()
            assert p.wait(10) == -9
        assert names(c) == []


def test_who_makes_itself_a_reaper_takes_nobody_out_of_the_tree() -> None:
    code = "import ctypes, os, time; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nif os.fork() == 0:\n os.setsid()\n os.fork() and os._exit(0)\nprint('up', flush=True); time.sleep(300)"
    with pyminicon.start(image="python") as c:
        with c.start(["python", "-c", code], stdout=PIPE) as p:
            assert p.stdout is not None and p.stdout.readline() == b"up\n"
            p.kill()
            assert p.wait(10) == -9
        assert names(c) == []


def test_orphans_are_reaped(home: Home) -> None:
    home.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.05 &); done"])
    states = "for d in /proc/[0-9]*; do cut -d' ' -f3 $d/stat; done 2>/dev/null"
    assert soon(
        lambda: b"Z" not in home.run(["sh", "-c", states], capture_output=True).stdout and names(home) == []
    )
