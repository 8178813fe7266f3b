"""Only an end is an end: a program that has itself traced has stopped, not ended."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest

import pyminicon
from tests.support.placement import needs_limit

#: The kernel makes its parent, init or us, the tracer of whoever says PTRACE_TRACEME; then a signal stops it.
TRACEME = "import ctypes, os, signal; assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0; print('traced', flush=True); os.kill(os.getpid(), 28); os._exit(7)"
#: Init has few capabilities, and whoever has more isn't traced by it.
OPTIONS: dict[str, Any] = {"image": "python", "cap_drop": ["ALL"]}


@pytest.mark.parametrize("init", [False, True])
def test_a_program_that_stops_to_be_traced_has_not_ended(init: bool) -> None:
    with pyminicon.start(["python", "-c", TRACEME], init=init, stdout=subprocess.PIPE, **OPTIONS) as box:
        assert box.stdout is not None and box.stdout.readline() == b"traced\n"
        with pytest.raises(subprocess.TimeoutExpired):
            box.wait(0.3)
        assert box.poll() is None
        box.kill()
        assert box.wait(10) == -9


@pytest.mark.parametrize("init", [False, True])
def test_it_is_ended_by_a_limit_all_the_same(init: bool) -> None:
    r = pyminicon.run(["python", "-c", TRACEME], init=init, capture_output=True, wall_time=3, **OPTIONS)
    assert (r.limit, r.returncode, r.stdout) == ("wall_time", -9, b"traced\n")


def test_a_debugger_inside_sees_its_own_programs_stops() -> None:
    code = (
        "import ctypes, os, signal\n"
        "c = ctypes.CDLL(None); pid = os.fork()\n"
        "if pid == 0:\n    c.ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGSTOP); os._exit(5)\n"
        "assert os.WIFSTOPPED(os.waitpid(pid, 0)[1]); assert c.ptrace(7, pid, 0, 0) == 0\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    r = pyminicon.run(
        ["python", "-c", code], image="python", init=True, capture_output=True, text=True, timeout=20
    )
    assert (r.returncode, r.stdout, r.stderr) == (0, "5\n", "")


@pytest.mark.parametrize("init", [False, True])
def test_a_storm_of_stops_and_continues_is_no_end(init: bool) -> None:
    with pyminicon.start(["sh", "-c", "echo there; sleep 600"], init=init, stdout=subprocess.PIPE) as box:
        assert box.stdout is not None and box.stdout.readline() == b"there\n"
        for _ in range(200):
            os.kill(box.pid, signal.SIGSTOP)
            os.kill(box.pid, signal.SIGCONT)
        with pytest.raises(subprocess.TimeoutExpired):
            box.wait(0.1)
        box.kill()
        assert box.wait(10) == -9


def test_a_storm_of_orphans_does_not_keep_init_from_its_other_duties() -> None:
    """It reaps by the batch, and between two of them forwards signals and sees the program's end."""
    needs_limit("pids", 200)
    storm = "trap 'exit 6' TERM; echo there; while :; do (:& :&) ; done"
    with pyminicon.start(["sh", "-c", storm], init=True, stdout=subprocess.PIPE, pids=200) as box:
        assert box.stdout is not None and box.stdout.readline() == b"there\n"
        box.terminate()
        assert box.wait(60) == 6
