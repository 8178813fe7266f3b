"""Whoever of owner, guards and init is killed or stopped, in whatever order: no container is left."""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.program.conftest import Program, alive, gone_after
from tests.support.guards import guards_of
from tests.support.processes import is_dying
from tests.support.waiting import soon

Start = Callable[..., Program]

STARTS = """
import pyminicon, time
boxes = [pyminicon.start(['/bin/sleep', MARK], **{options}) for _ in range(2)]
print(*(box.pid for box in boxes), flush=True)
time.sleep(600)
"""
IN_THREADS = """
import pyminicon, threading, time
boxes = []
def one(): boxes.append(pyminicon.start(['/bin/sleep', MARK], **{options}))
for _ in range(2):
    thread = threading.Thread(target=one); thread.start(); thread.join()
print(*(box.pid for box in boxes), flush=True)
time.sleep(600)
"""
TEMPLATE = """
import pyminicon, threading, time
boxes = []
template = pyminicon.Template(**{options})
def one(): boxes.append(template.start(['/bin/sleep', MARK]))
for _ in range(2):
    thread = threading.Thread(target=one); thread.start(); thread.join(); time.sleep(0.05)
print(*(box.pid for box in boxes), flush=True)
time.sleep(600)
"""
LOOP = """
import asyncio, pyminicon
async def main():
    boxes = [await pyminicon.aio.start(['/bin/sleep', MARK], **{options}) for _ in range(2)]
    print(*(box.pid for box in boxes), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
PROGRAMS = {"main thread": STARTS, "threads": IN_THREADS, "template": TEMPLATE, "loop": LOOP}
KINDS: list[dict[str, Any]] = [{}, {"init": True}, {"userns": "private"}, {"user": "1000"}]


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def survivors(pids: list[int], within: float = 1.0) -> list[int]:
    """Those of the processes ``pids`` that nobody has killed within a second, or that don't come to their end."""
    by_fd = {}
    for pid in pids:
        try:
            by_fd[os.pidfd_open(pid)] = pid
        except ProcessLookupError:
            continue
    begun = time.monotonic()
    left = dict(by_fd)
    doubts = 0
    while left and (passed := time.monotonic() - begun) < within + 10:
        doubts += passed > within and not all(map(is_dying, left.values()))
        if doubts > 1:  # between its signal and its end it shows neither
            break
        for fd in select.select(list(left), [], [], 0.05)[0]:
            del left[fd]
    for fd in by_fd:
        os.close(fd)
    return list(left.values())


def one_round(program: Start, chance: random.Random, options: dict[str, Any]) -> None:
    where = chance.choice(list(PROGRAMS))
    running = program(PROGRAMS[where].format(options=options))
    boxes = [int(word) for word in running.line().split()]
    guards = guards_of(running.process.pid)
    assert len(guards) == 2
    others = guards + (boxes if options.get("init") else [])
    chosen = chance.sample(others, chance.randint(0, len(others)))
    acts = [(pid, chance.choice([signal.SIGKILL, signal.SIGSTOP])) for pid in chosen]
    acts.insert(chance.randint(0, len(acts)), (running.process.pid, signal.SIGKILL))
    pause = chance.choice([0, 0, 0.001, 0.01, 0.05])
    for pid, number in acts:
        send(pid, number)
        time.sleep(pause)
    running.process.wait()
    left = survivors(boxes)
    for pid in left:
        send(pid, signal.SIGKILL)
    assert not left, f"{where} {options} {pause} guards {guards} boxes {boxes}: {acts}"
    assert soon(lambda: not survivors(guards, 0.0), 15)


def rounds(program: Start, count: int) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for number in range(count):
        options = chance.choice(KINDS if os.geteuid() == 0 else KINDS[:3])
        try:
            one_round(program, chance, options)
        except AssertionError as error:
            raise AssertionError(f"round {number} of seed {seed}: {error}") from error


@pytest.mark.slow_in_vm
def test_any_of_them_killed_or_stopped_in_any_order_leaves_no_container(program: Start) -> None:
    rounds(program, 25)


@pytest.mark.hour
def test_the_same_five_hundred_times(program: Start) -> None:
    rounds(program, 500)


def kill_at_once(guards: list[int], owner: int) -> None:
    """As a `cgroup.kill` of the owner's cgroup does: nobody of them has a moment more than the others."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (*guards, owner):
            send(pid, number)


@pytest.mark.parametrize("where", PROGRAMS)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_where_all_die_in_one_moment_the_kernel_ends_the_containers(
    program: Start, options: dict[str, Any], where: str
) -> None:
    if "user" in options and os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    running = program(PROGRAMS[where].format(options=options))
    boxes = [int(word) for word in running.line().split()]
    kill_at_once(guards_of(running.process.pid), running.process.pid)
    running.process.wait()
    assert not survivors(boxes)


def test_a_run_in_any_thread_dies_in_that_moment_too(program: Start, mark: str) -> None:
    running = program(
        "import pyminicon, threading, time\n"
        "threading.Thread(target=pyminicon.run, args=(['/bin/sleep', MARK],)).start()\n"
        "time.sleep(0.5); print('there', flush=True); time.sleep(600)"
    )
    assert running.line() == "there"
    assert soon(lambda: alive(mark))
    kill_at_once(guards_of(running.process.pid), running.process.pid)
    running.process.wait()
    assert gone_after(mark) is not None


def test_what_a_thread_has_started_outlives_the_thread(program: Start, mark: str) -> None:
    running = program(
        "import pyminicon, threading, time\nboxes = []\n"
        "def one(): boxes.append(pyminicon.start(['/bin/sleep', MARK]))\n"
        "thread = threading.Thread(target=one); thread.start(); thread.join(); time.sleep(0.5)\n"
        "print(boxes[0].poll(), flush=True); time.sleep(600)"
    )
    assert running.line() == "None"
    running.process.kill()
    running.process.wait()
    assert gone_after(mark) is not None


def test_a_guard_that_dies_is_replaced_at_once_and_nothing_ends(program: Start, mark: str) -> None:
    running = program(STARTS.format(options={}))
    boxes = running.line().split()
    for number in range(6):
        before = guards_of(running.process.pid)
        victim = before[number % 2]
        os.kill(victim, signal.SIGKILL)
        assert soon(
            lambda v=victim: len(now := guards_of(running.process.pid)) == 2 and v not in now  # type: ignore[misc]
        )
    assert all(Path(f"/proc/{pid}").exists() for pid in boxes)
    running.process.kill()
    running.process.wait()
    assert gone_after(mark) is not None


def test_a_younger_guard_that_is_stopped_goes_on_at_once(program: Start) -> None:
    running = program(STARTS.format(options={}))
    running.line()
    guards = guards_of(running.process.pid)
    parents = {
        int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1]): one for one in guards
    }
    (younger,) = (child for parent, child in parents.items() if parent in guards)
    for _ in range(5):
        os.kill(younger, signal.SIGSTOP)
        assert soon(lambda: not stopped(younger))


def test_a_guard_that_finds_no_process_for_another_makes_it_as_soon_as_there_is_one(
    program: Start, mark: str
) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user: root's processes aren't counted")
    running = program(STARTS.format(options={}))
    running.line()
    left, gone = guards_of(running.process.pid)
    before = resource.prlimit(left, resource.RLIMIT_NPROC)
    resource.prlimit(left, resource.RLIMIT_NPROC, (0, before[1]))
    os.kill(gone, signal.SIGKILL)
    assert soon(lambda: guards_of(running.process.pid) == [left])
    time.sleep(0.2)
    assert guards_of(running.process.pid) == [left]
    resource.prlimit(left, resource.RLIMIT_NPROC, before)
    assert soon(lambda: len(guards_of(running.process.pid)) == 2)
    running.process.kill()
    running.process.wait()
    assert gone_after(mark) is not None


def stopped(pid: int) -> bool:
    return "T (stopped)" in Path(f"/proc/{pid}/status").read_text()


def woken(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise AssertionError


def test_a_launch_wakes_one_of_the_guards_and_the_other_sleeps(program: Start) -> None:
    running = program(
        "import pyminicon\nrun = lambda: pyminicon.run(['/bin/true'])\nrun()\nprint('1', flush=True); input()\n"
        "for _ in range(100): run()\nprint('2', flush=True); input()",
        stdin=subprocess.PIPE,
    )
    assert running.line() == "1"
    guards, begun = guards_of(running.process.pid), time.monotonic()
    before = [woken(pid) for pid in guards]
    assert running.process.stdin is not None
    running.process.stdin.write("\n")
    running.process.stdin.flush()
    assert running.line() == "2"
    lasted = time.monotonic() - begun
    less = min(woken(pid) - was for pid, was in zip(guards, before, strict=True))
    assert less < 20 + 10 * lasted  # by its alarms, which come twice or three times a second


def test_guards_that_were_stopped_without_a_pause_go_on_afterwards(program: Start) -> None:
    """Each stop throws away an alarm that has come and wasn't heard."""
    running = program(STARTS.format(options={}))
    running.line()
    guards = guards_of(running.process.pid)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        for pid in guards:
            send(pid, signal.SIGSTOP)
    assert soon(lambda: not any(map(stopped, guards)))
    for pid in guards:  # and the next time as well
        send(pid, signal.SIGSTOP)
    assert soon(lambda: not any(map(stopped, guards)), 2)
    assert guards_of(running.process.pid) == guards


def test_a_program_whose_guards_have_both_died_gets_new_ones_for_what_it_has(
    program: Start, mark: str
) -> None:
    running = program(
        "import pyminicon\nold = pyminicon.start(['/bin/sleep', MARK + '.1'])\nprint('old', flush=True); input()\n"
        "new = pyminicon.start(['/bin/sleep', MARK + '.2'])\nprint(old.poll(), flush=True); input()",
        stdin=subprocess.PIPE,
    )
    assert running.line() == "old"
    for pid in guards_of(running.process.pid):
        os.kill(pid, signal.SIGSTOP)  # or one would replace the other
    for pid in guards_of(running.process.pid):
        os.kill(pid, signal.SIGKILL)
    assert soon(lambda: not guards_of(running.process.pid))
    assert running.process.stdin is not None
    running.process.stdin.write("\n")
    running.process.stdin.flush()
    assert running.line() == "None"
    assert len(guards_of(running.process.pid)) == 2
    assert soon(lambda: len(alive(mark)) == 2)
    running.process.kill()
    running.process.wait()
    assert gone_after(mark) is not None


def test_a_container_in_a_thousand_groups_ends_with_its_program(program: Start, mark: str) -> None:
    """Its NSpid, by which a guard knows it, lies far down in /proc/PID/status."""
    if os.geteuid() != 0:
        pytest.skip("needs root to have a thousand groups")
    running = program(
        "import os, threading\nos.setgroups(range(20000, 21000))\nimport pyminicon, time\n"
        "def one():\n    box = pyminicon.start(['/bin/sleep', MARK], userns='private')\n"
        "    print(box.pid, flush=True)\n    time.sleep(600)\n"
        "threading.Thread(target=one).start()"
    )
    pid = int(running.line())
    status = Path(f"/proc/{pid}/status").read_text()
    assert status.index("NSpid") > 4096 or len(status.partition("Groups:")[2].split("\n")[0]) < 100
    running.process.kill()
    running.process.wait()
    assert gone_after(mark) is not None


def test_a_guard_that_cannot_begin_fails_the_launch_at_once_and_says_why(program: Start) -> None:
    """As where memfds may not be executed (vm.memfd_noexec), or a security module forbids it."""
    running = program(
        "import pyminicon, time\nfrom tests.support import deny\npyminicon.load()\n"
        "deny.deny('execveat', None)\nbegun = time.monotonic()\n"
        "for _ in range(2):\n"
        "    try:\n        pyminicon.run(['true'])\n"
        "    except pyminicon.LaunchError as error:\n"
        "        print(error.stage, error.errno, time.monotonic() - begun < 5, flush=True)\n"
    )
    for _ in range(2):
        assert running.line() == "watch 71 True"
