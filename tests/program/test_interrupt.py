"""Ctrl-C, and the end of the interpreter: at whatever moment they come, nothing is left."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.program.conftest import Program, alive, gone_after
from tests.support.waiting import soon

Start = Callable[..., Program]

LOOPS = {
    "run": "pyminicon.run(['/bin/sleep', MARK], capture_output=True)",
    "short runs": "pyminicon.run(['/bin/true'])",
    "init": "pyminicon.run(['/bin/sleep', MARK], init=True)",
    "wait": "pyminicon.start(['/bin/sleep', MARK]).wait()",
    "communicate": "pyminicon.start(['/bin/sleep', MARK], stdout=-1).communicate()",
    "with": "\n        with pyminicon.start(['/bin/sleep', MARK]) as box: box.wait()",
    "aio": "asyncio.run(pyminicon.aio.run(['/bin/sleep', MARK]))",
    "aio start": "asyncio.run(waiting())",
}


@pytest.mark.parametrize("name", LOOPS)
def test_ctrl_c_leaves_nothing(program: Start, mark: str, name: str) -> None:
    seed = random.randrange(1 << 30)
    moment = random.Random(seed)
    for turn in range(4):
        running = program(f"""
import asyncio, gc, pyminicon
async def waiting():
    async with await pyminicon.aio.start(['/bin/sleep', MARK]) as box:
        await box.wait()
pyminicon.run(['/bin/true'])
pyminicon.aio
try:
    print('going', flush=True)
    while True:
        {LOOPS[name]}
except KeyboardInterrupt:
    pass
gc.collect()
print('interrupted', flush=True)
input()
""", stdin=-1)  # fmt: skip
        assert running.line() == "going"
        time.sleep(moment.random() * 0.03 if turn else 0.3)
        running.process.send_signal(signal.SIGINT)
        assert running.line() == "interrupted", f"seed {seed}, turn {turn}"
        if name in (
            "wait",
            "communicate",
        ):  # as under subprocess: whoever starts without `with` ends it himself
            assert running.process.stdin is not None
            running.process.stdin.write("\n")
            running.process.stdin.close()
            running.process.stdin = None
            assert running.process.wait(30) == 0
        assert gone_after(mark) is not None, f"seed {seed}, turn {turn}"


def test_a_handler_that_returns_doesn_t_end_the_wait(program: Start) -> None:
    running = program("""
import pyminicon, signal
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
print('going', flush=True)
r = pyminicon.run(['/bin/sh', '-c', 'sleep 1; exit 3'])
print(r.returncode, bool(seen), flush=True)
input()  # a signal that comes to an interpreter at its end kills it
""", stdin=-1)  # fmt: skip
    assert running.line() == "going"
    for _ in range(20):
        time.sleep(0.03)
        running.process.send_signal(signal.SIGUSR1)
    assert running.line() == "3 True"
    assert running.process.stdin is not None
    running.process.stdin.write("\n")
    running.process.stdin.flush()
    assert running.process.wait(60) == 0


def test_signals_that_come_all_the_time_disturb_no_launch_and_no_end(program: Start, mark: str) -> None:
    """poll(2) is never begun again by the kernel (signal(7)), whatever SA_RESTART says."""
    running = program("""
import pyminicon, signal
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
asked = {'capture_output': True, 'text': True, 'timeout': 60}
for _ in range(15):
    assert pyminicon.run(['echo', MARK], **asked).stdout.strip() == MARK
    assert pyminicon.run(['echo', MARK], userns='private', init=True, **asked).stdout.strip() == MARK
    with pyminicon.start(['sleep', MARK]) as c:
        assert c.poll() is None
    assert c.returncode == -9
    with pyminicon.start() as c:
        assert c.run(['echo', MARK], **asked).stdout.strip() == MARK
        assert [line.strip() for line in c.path('/etc/hostname').read_text().splitlines()] != []
    assert c.returncode == 0
with pyminicon.Template() as t:
    assert t.run(['echo', MARK], **asked).stdout.strip() == MARK
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(seen) > 100)
""")
    assert running.end(timeout=120) == (0, "True\n")
    assert gone_after(mark) is not None


def test_an_exception_from_a_handler_ends_the_container(program: Start, mark: str) -> None:
    running = program("""
import pyminicon, signal
def stop(*_): raise OSError('enough')
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    pyminicon.run(['/bin/sleep', MARK])
except OSError as error:
    print(error, flush=True)
input()
""", stdin=-1)  # fmt: skip
    assert running.line() == "enough"
    assert gone_after(mark) is not None


@pytest.mark.parametrize(
    "ending",
    ["", "sys.exit(3)", "raise ValueError", "threading.Thread(target=lambda: None).start()", "os._exit(0)", "os.abort()",
     "os.kill(os.getpid(), 15)", "gc.disable(); box.again = box; del box"],
)  # fmt: skip
def test_the_end_of_the_interpreter_ends_running_containers(program: Start, mark: str, ending: str) -> None:
    running = program(f"""
import gc, pyminicon, sys, threading
box = pyminicon.start(['/bin/sleep', MARK], stdin=-1, stdout=-1)
box2 = pyminicon.start(['/bin/sleep', MARK], init=True, wall_time=500)
print('there', flush=True)
{ending}
""", stderr=-3)  # fmt: skip
    assert running.line() == "there"
    running.process.wait(30)
    assert gone_after(mark) is not None


def test_leaving_while_threads_launch(program: Start, mark: str) -> None:
    for _ in range(5):
        running = program("""
import pyminicon, threading, time
def launch():
    while True:
        pyminicon.run(['/bin/sleep', '0.01'])
        pyminicon.start(['/bin/sleep', MARK])
for _ in range(4):
    threading.Thread(target=launch, daemon=True).start()
time.sleep(0.5)
""", stderr=-3)  # fmt: skip
        running.process.wait(60)
        assert gone_after(mark) is not None, alive(mark)


def test_closing_a_terminal_session_ends_containers(program: Start, mark: str) -> None:
    running = program("import pyminicon; print('there', flush=True); pyminicon.run(['/bin/sleep', MARK])")
    assert running.line() == "there"
    assert soon(lambda: alive(mark))
    os.kill(running.process.pid, signal.SIGHUP)
    assert running.process.wait(30) == -signal.SIGHUP
    assert gone_after(mark) is not None


@pytest.mark.parametrize(
    "call",
    [
        "run(['sleep', '60'])",
        "start(['sleep', '60']).wait()",
        "start(['sleep', '60'], stdout=-1).communicate()",
        "Template().run(['sleep', '60'])",
        "start().run(['sleep', '60'])",
        "start().start(['sleep', '60']).wait()",
        "start().start(['sleep', '60'], stdout=-1).communicate()",
    ],
)
def test_a_signal_that_interrupts_nothing_is_handled_all_the_same(program: Start, call: str) -> None:
    """As one does that comes just before the wait: here it comes to another thread."""
    running = program(f"""
import os, signal, threading, time, pyminicon
def heard(number, frame): raise SystemExit(7)
signal.signal(signal.SIGUSR1, heard)
def other():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    time.sleep(1)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    time.sleep(60)
threading.Thread(target=other, daemon=True).start()
begun = time.monotonic()
try: pyminicon.{call}
finally: print(time.monotonic() - begun < 20, flush=True)
""")  # fmt: skip
    assert running.line() == "True"
    assert running.process.wait(20) == 7
