"""Games of pid 1: deaf to signals, dying first, leaving orphans."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

import pyminicon
from tests.support.processes import marked, marked_soon

Run = Callable[..., Any]


@pytest.mark.parametrize("init", [False, True])
def test_a_program_that_ignores_every_signal_is_killed(init: bool) -> None:
    script = "for n in $(seq 1 31); do trap '' $n 2>/dev/null; done; echo ready; while :; do sleep 1; done"
    with pyminicon.start(["sh", "-c", script], init=init, stdout=subprocess.PIPE) as box:
        assert box.stdout is not None and box.stdout.readline() == b"ready\n"
        for number in (15, 2, 1, 3):
            box.send_signal(number)
        time.sleep(0.1)
        assert box.poll() is None
        box.kill()
        assert box.wait(10) == -9


@pytest.mark.parametrize("init", [False, True])
def test_nothing_outlives_the_first_program(init: bool, inside: Run) -> None:
    """Daemons, in sessions of their own, deaf: gone when run returns."""
    mark = f"71{os.getpid()}"
    script = f"for i in 1 2 3 4 5; do (trap '' TERM HUP INT; setsid sh -c 'setsid sleep {mark} & exec sleep {mark}' &) ; done; sleep 0.2"
    assert inside(["sh", "-c", script], init=init).returncode == 0
    assert not marked(mark)
    with subprocess.Popen(["sleep", mark]) as ours:
        found = marked_soon(mark)
        ours.kill()
    assert found == [ours.pid]


def test_orphans_are_reaped_under_init(inside: Run) -> None:
    script = "for i in $(seq 200); do (true &) ; done; for i in $(seq 300); do n=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z'); [ $n = 0 ] && break; sleep 0.1; done; echo $n"
    assert inside(["sh", "-c", script], init=True).stdout == "0\n"


def test_a_container_cannot_kill_or_stop_its_init(inside: Run) -> None:
    r = inside(["sh", "-c", "kill -9 1; kill -STOP 1; echo alive; exit 7"], init=True)
    assert (r.stdout, r.returncode) == ("alive\n", 7)


def test_a_container_cannot_forge_the_status_that_init_tells(inside: Run) -> None:
    script = "for n in /proc/1/fd/*; do printf '\\0\\0\\0\\0' > $n; done 2>/dev/null; for n in 3 4 5 6 7 8 9; do eval \"printf x >&$n\"; done 2>/dev/null; exit 9"
    assert inside(["sh", "-c", script], init=True).returncode in (2, 9)


@pytest.mark.parametrize("init", [False, True])
def test_a_signal_number_cannot_be_invented(init: bool, inside: Run) -> None:
    assert inside(["sh", "-c", "exit 137"], init=init).returncode == 137
    if init:
        assert inside(["sh", "-c", "kill -9 $$"], init=True).returncode == -9


def test_a_stopped_program_is_killed_all_the_same(inside: Run) -> None:
    begin = time.monotonic()
    r = inside(["sh", "-c", "kill -STOP $$"], init=True, wall_time=0.5)
    assert r.limit == "wall_time" and r.returncode == -9 and time.monotonic() - begin < 15
    assert (
        inside(["sh", "-c", "(sleep 0.1; kill -CONT $$) & kill -STOP $$; exit 3"], init=True).returncode == 3
    )
