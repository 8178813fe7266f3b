"""The program dies: whatever it was doing, nothing of its containers is there a second later."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program.conftest import GONE_WITHIN, Program, alive, gone_after
from tests.support.guards import guards_of
from tests.support.waiting import soon

Start = Callable[..., Program]

FOREVER = """
import pyminicon, sys, threading
def one():
    while True:
        box = pyminicon.start(['/bin/sleep', MARK], **OPTIONS)
        box.kill(); box.wait(); box.close()
OPTIONS = {options}
pyminicon.run(['/bin/true'])
for _ in range({threads} - 1):
    threading.Thread(target=one).start()
print('launching', flush=True)
one()
"""


@pytest.mark.parametrize(
    ("options", "threads", "moments"),
    [({}, 1, 20), ({"init": True}, 1, 15), ({"user": "1000"}, 1, 5), ({}, 4, 10)],
)
@pytest.mark.slow_in_vm
def test_sigkill_at_any_moment_of_a_launch(
    program: Start, mark: str, options: dict[str, object], threads: int, moments: int
) -> None:
    if options.get("user") and os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    seed = random.randrange(1 << 30)
    moment = random.Random(seed)
    for number in range(moments):
        running = program(FOREVER.format(options=options, threads=threads))
        assert running.line() == "launching"
        guards = guards_of(running.process.pid)
        time.sleep(moment.random() * 0.05)
        running.process.kill()
        running.process.wait()
        left = gone_after(mark)
        assert left is not None, f"moment {number} of seed {seed}: {alive(mark)} {options}"
        assert soon(lambda w=guards: not any(map(runs, w)), 30)


def payload(line: str, **options: object) -> str:
    return f"""
import pyminicon
box = pyminicon.start(['/bin/sh', '-c', {line!r} + MARK], stdout=pyminicon.PIPE, **{options!r})
print(box.stdout.readline().decode().strip(), flush=True)
import time; time.sleep(600)
"""


def killed_and_gone(running: Program, mark: str) -> None:
    assert alive(mark), "the container wasn't there to begin with"
    running.process.kill()
    running.process.wait()
    assert gone_after(mark) is not None, f"still there after {GONE_WITHIN} s"


def runs(pid: str | int) -> bool:
    """Whether a process is there and no zombie, which has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_what_waits_in_a_templates_stock_goes_with_its_program(program: Start) -> None:
    running = program("""
import pyminicon, time
from tests.support import leftovers
template = pyminicon.Template(stock=3)
while template.ready < 3:
    time.sleep(0.01)
print(*(entry.split()[0] for entry in leftovers.children()), flush=True)
time.sleep(600)
""")
    waiting = running.line().split()
    assert len(waiting) == 3
    assert all(map(runs, waiting))
    running.process.kill()
    running.process.wait()
    assert soon(lambda: not any(map(runs, waiting)), GONE_WITHIN)


def test_a_running_container_goes_with_its_program(program: Start, mark: str) -> None:
    running = program(payload("echo there; sleep "))
    assert running.line() == "there"
    killed_and_gone(running, mark)


def test_all_that_the_container_has_started_goes_too(program: Start, mark: str) -> None:
    line = "many() { for i in 1 2 3 4 5; do setsid sleep $1 & done; echo there; wait; }; many "
    running = program(payload(line))
    assert running.line() == "there"
    assert soon(lambda: len(alive(mark)) >= 5)
    killed_and_gone(running, mark)


@pytest.mark.parametrize("options", [{}, {"init": True}, {"wall_time": 300}, {"userns": "private"}])
def test_whatever_kind_it_is(program: Start, mark: str, options: dict[str, object]) -> None:
    running = program(payload("echo there; sleep ", **options))
    assert running.line() == "there"
    killed_and_gone(running, mark)


CLEARS = "import ctypes, os; ctypes.CDLL(None).prctl(1, 0); {extra}; print('cleared', flush=True); import time; time.sleep(600)"


@pytest.mark.parametrize(
    "extra", ["pass", "os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)", "os.setsid()"]
)
def test_a_payload_that_clears_its_parent_death_signal(program: Start, mark: str, extra: str) -> None:
    if "setres" in extra and os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    code = CLEARS.format(extra=extra if extra != "os.setsid()" else "os.fork() or os.setsid()")
    running = program(f"""
import pyminicon
box = pyminicon.start(['python', '-c', {code!r}, MARK], image='python', stdout=pyminicon.PIPE)
print(box.stdout.readline().decode().strip(), flush=True)
import time; time.sleep(600)
""")
    assert running.line() == "cleared"
    killed_and_gone(running, mark)


def test_workers_that_hold_copies_of_the_programs_descriptors_keep_nothing_alive(
    program: Start, mark: str
) -> None:
    running = program("""
import pyminicon, time
box = pyminicon.start(['/bin/sleep', MARK], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE)
workers = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    workers.append(pid)
print(*workers, flush=True)
time.sleep(600)
""")
    workers = [int(word) for word in running.line().split()]
    try:
        assert soon(lambda: alive(mark))
        killed_and_gone(running, mark)
        assert all(os.path.exists(f"/proc/{pid}") for pid in workers), "the workers should have survived"
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)


def test_a_worker_that_dies_takes_only_its_own_containers(program: Start, mark: str) -> None:
    running = program("""
import pyminicon, time
mine = pyminicon.start(['/bin/sleep', MARK + '.1'])
pid = os.fork()
if pid == 0:
    theirs = pyminicon.start(['/bin/sleep', MARK + '.2'])
    print(os.getpid(), flush=True)
    time.sleep(600)
os.waitpid(pid, 0)
print('worker gone', mine.poll(), flush=True)
time.sleep(600)
""")
    worker = int(running.line())
    assert soon(lambda: len(alive(mark)) == 2)
    os.kill(worker, signal.SIGKILL)
    assert running.line() == "worker gone None"
    assert gone_after(mark + ".2") is not None
    assert alive(mark + ".1")
    killed_and_gone(running, mark)


def test_a_thread_that_ends_kills_nothing(program: Start, mark: str) -> None:
    running = program("""
import pyminicon, threading, time
boxes = []
thread = threading.Thread(target=lambda: boxes.append(pyminicon.start(['/bin/sleep', MARK])))
thread.start()
thread.join()
time.sleep(0.3)
print(boxes[0].poll(), flush=True)
boxes[0].close()
""")
    assert running.line() == "None"
    assert running.end()[0] == 0


# ---- the guards -------------------------------------------------------------------------------------


def test_two_guards_serve_all_containers_and_die_with_their_owner(program: Start, mark: str) -> None:
    running = program("""
import pyminicon, time
boxes = [pyminicon.start(['/bin/sleep', MARK]) for _ in range(20)]
print('there', flush=True)
time.sleep(600)
""")
    assert running.line() == "there"
    guards = guards_of(running.process.pid)
    assert len(guards) == 2
    for guard in guards:
        status = Path(f"/proc/{guard}/status").read_text()
        assert f"\nPPid:\t{running.process.pid}\n" not in status, "waitpid(-1) would wait for it"
    killed_and_gone(running, mark)
    assert soon(lambda: not any(map(runs, guards)), 30)


def test_a_program_that_ends_by_itself_takes_its_guards_along(program: Start) -> None:
    running = program(
        "import pyminicon; pyminicon.run(['/bin/true']); print('ran', flush=True); input()", stdin=-1
    )
    assert running.line() == "ran"
    guards = guards_of(running.process.pid)
    assert len(guards) == 2
    assert running.process.stdin is not None
    running.process.stdin.write("\n")
    running.process.stdin.close()
    running.process.stdin = None
    assert running.end()[0] == 0
    assert soon(lambda: not any(map(runs, guards)), 30)


def test_guards_that_were_killed_leave_no_zombie(program: Start) -> None:
    running = program(
        "import pyminicon; pyminicon.run(['/bin/true']); print('ran', flush=True); input()\n"
        "pyminicon.run(['/bin/true']); print('again', flush=True); input()",
        stdin=-1,
    )
    assert running.line() == "ran"
    for number in range(4):
        victim = guards_of(running.process.pid)[number % 2]
        os.kill(victim, signal.SIGKILL)
        assert soon(lambda v=victim: not os.path.exists(f"/proc/{v}")), "nobody buried it"
        assert soon(lambda: len(guards_of(running.process.pid)) == 2)
    assert running.process.stdin is not None
    running.process.stdin.write("\n\n")
    running.process.stdin.flush()
    assert running.line() == "again"
    assert running.process.wait(30) == 0


def test_signals_to_the_programs_group_don_t_reach_the_guards(program: Start, mark: str) -> None:
    running = program(payload("echo there; sleep "), start_new_session=True)
    assert running.line() == "there"
    guards = guards_of(running.process.pid)
    os.killpg(running.process.pid, signal.SIGINT)
    running.process.wait()
    assert gone_after(mark) is not None
    assert soon(lambda: not any(map(runs, guards)), 30)
