"""Timeouts, waiting and what happens to a status that others take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pyminicon
from tests.support.processes import unmarked_soon
from tests.support.python import fresh
from tests.support.threads import in_threads


@pytest.mark.parametrize(
    "options", [{}, {"init": True}, {"user": "1234"}, {"volumes": ["/usr:/v:ro"]}], ids=repr
)
def test_a_timeout_kills_everything_and_keeps_what_was_captured(options: dict[str, object]) -> None:
    tag = f"100{os.getpid()}"
    line = f"echo out; echo err >&2; sleep {tag} & (setsid sleep {tag} &) ; sleep {tag}"
    begun = time.monotonic()
    with pytest.raises(pyminicon.TimeoutExpired) as caught:
        pyminicon.run(["sh", "-c", line], capture_output=True, timeout=1.5, **options)
    assert 1.4 < time.monotonic() - begun < 10
    assert caught.value.timeout == 1.5
    assert (caught.value.output, caught.value.stderr) == (b"out\n", b"err\n")
    assert unmarked_soon(tag)


def test_a_timeout_is_subprocess_own_and_ours() -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        pyminicon.run(["sleep", "100"], timeout=0.1)
    assert isinstance(caught.value, pyminicon.Error)
    assert caught.value.cmd == ["sleep", "100"]


def test_a_timeout_in_text_mode_has_what_subprocess_has() -> None:
    """subprocess gives bytes there, whatever the mode."""
    seen = []
    for run in (subprocess.run, pyminicon.run):
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run(["sh", "-c", "echo so far; sleep 60"], timeout=1.5, capture_output=True, text=True)  # type: ignore[operator]
        seen.append((caught.value.output, caught.value.stderr))
    assert seen[1][0] in (seen[0][0], "so far\n")


def test_a_generous_timeout_changes_nothing() -> None:
    assert pyminicon.run(["echo", "x"], timeout=1e9, capture_output=True).stdout == b"x\n"
    assert pyminicon.run(["echo", "x"], timeout=60, capture_output=True).stdout == b"x\n"


def test_a_timeout_of_zero_has_run_out() -> None:
    with pytest.raises(pyminicon.TimeoutExpired):
        pyminicon.run(["sleep", "100"], timeout=0)


def test_a_timeout_bounds_the_setup_when_a_volume_hangs(needs_root: None, tmp_path: Path) -> None:
    """A mount that never answers: an autofs without its daemon would do; a FIFO in the way of files= does too."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    begun = time.monotonic()
    with pytest.raises(pyminicon.TimeoutExpired):
        pyminicon.run(["cat", "/fifo"], volumes=[f"{fifo}:/fifo"], timeout=0.5)
    assert time.monotonic() - begun < 10


def test_ctrl_c_ends_the_container_and_the_call() -> None:
    tag = f"101{os.getpid()}"
    code = f"""
import pyminicon, threading, os, time, signal
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    pyminicon.run(["sleep", "{tag}"])
except KeyboardInterrupt:
    print("interrupted", len([p for p in os.listdir("/proc/self/task")]) > 0)
"""
    begun = time.monotonic()
    r = fresh(code)
    assert r.stdout.startswith("interrupted"), r.stderr
    assert time.monotonic() - begun < 20
    assert unmarked_soon(tag)


def test_signal_handlers_run_while_a_container_is_waited_for() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    alarm = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        alarm.start()
        assert pyminicon.run(["sleep", "2"]).returncode == 0
        assert seen == [signal.SIGUSR1]
    finally:
        alarm.join()
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_run_while_a_container_is_waited_for() -> None:
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    pyminicon.run(["sleep", "1"])
    stop.set()
    thread.join()
    assert counted > 10


def test_no_sigchld_handler_is_installed_and_none_is_needed() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    pyminicon.run(["true"])
    assert signal.getsignal(signal.SIGCHLD) == before


def test_children_of_the_program_itself_are_left_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    for _ in range(5):
        pyminicon.run(["true"])
    assert child.wait() == 7


def test_a_program_that_ignores_sigchld_never_hangs_nor_gets_a_made_up_status() -> None:
    code = """
import signal, pyminicon
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for args in (["sh", "-c", "exit 7"], ["true"]):
    try:
        print(pyminicon.run(args).returncode)
    except pyminicon.Error as error:
        print("taken" if "status was taken" in str(error) else error)
"""
    r = fresh(code)
    assert r.stdout in ("7\n0\n", "taken\ntaken\n"), r


def test_a_program_that_waits_for_all_children_never_makes_run_hang() -> None:
    code = """
import os, threading, pyminicon
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            pass
threading.Thread(target=reap, daemon=True).start()
for number in range(20):
    try:
        assert pyminicon.run(["sh", "-c", "exit 7"]).returncode == 7
    except pyminicon.Error as error:
        assert "status was taken" in str(error)
print("done")
"""
    r = fresh(code)
    assert r.stdout == "done\n", r


def test_the_end_of_the_program_that_was_killed_ends_the_container() -> None:
    tag = f"102{os.getpid()}"
    code = f"""
import pyminicon, os, signal
c = pyminicon.start(["sh", "-c", "trap '' TERM HUP INT; echo; sleep {tag}"], stdout=pyminicon.PIPE)
c.stdout.readline()
print(c.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    r = fresh(code)
    assert r.stdout.strip().isdigit(), r
    assert unmarked_soon(tag)


def test_a_container_outlives_the_thread_that_started_it() -> None:
    made: list[pyminicon.Container] = []
    thread = threading.Thread(
        target=lambda: made.append(
            pyminicon.start(["sh", "-c", "read x; echo $x"], stdin=pyminicon.PIPE, stdout=pyminicon.PIPE)
        )
    )
    thread.start()
    thread.join()
    time.sleep(0.2)
    with made[0] as c:
        assert c.poll() is None
        assert c.communicate(b"alive\n")[0] == b"alive\n"


def test_thirty_two_threads_launch_at_once() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(5):
            options: dict[str, object] = {"user": str(1000 + number)} if number % 3 == 0 else {}
            r = pyminicon.run(
                ["sh", "-c", f"echo {number}.{turn} $(id -u)"], capture_output=True, text=True, **options
            )
            want = f"{number}.{turn} {1000 + number if number % 3 == 0 else 0}\n"
            if r.stdout != want:
                wrong.append(r)

    in_threads(32, work)
    assert wrong == []
