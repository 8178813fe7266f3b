"""A signal to the command is a signal to the container; and who wants it to end gets that."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.cli.conftest import COMMAND, Cli, Started, environment
from tests.support.processes import is_dying

Start = Callable[..., Started]

TRAP = "trap 'echo heard {0}; exit 7' {0}; echo ready; while :; do sleep 0.05; done"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM"])
def test_a_handler_inside_hears_it(start: Start, name: str) -> None:
    one = start("run", "host", "sh", "-c", TRAP.format(name))
    assert one.line() == "ready\n"
    one.process.send_signal(getattr(signal, f"SIG{name}"))
    assert one.line() == f"heard {name}\n"
    assert one.status() == 7


@pytest.mark.parametrize("options", [[], ["--init"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_without_a_handler_it_ends_as_anywhere_else(start: Start, number: int, options: list[str]) -> None:
    """Though it is pid 1, which the kernel spares."""
    one = start("run", *options, "host", "sh", "-c", "echo ready; exec sleep 60")
    assert one.line() == "ready\n"
    time.sleep(0.1)  # until the shell has become sleep
    one.process.send_signal(number)
    assert one.status() == 128 + number


def test_a_second_interrupt_ends_what_didnt_end_at_the_first(start: Start) -> None:
    one = start("run", "host", "sh", "-c", "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done")
    assert one.line() == "ready\n"
    one.process.send_signal(signal.SIGINT)
    assert one.line() == "no\n"
    assert one.process.poll() is None
    one.process.send_signal(signal.SIGINT)
    assert one.status() == 128 + signal.SIGINT


def test_what_the_caller_ignores_stays_ignored(start: Start) -> None:
    line = f"trap '' HUP; exec {' '.join(COMMAND)} run host sh -c 'echo ready; sleep 0.7; echo end'"
    process = subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60)[0] == "end\n"
    assert process.returncode == 0


@pytest.mark.parametrize("options", [[], ["--init"], ["-v", "/tmp:/x"]])
def test_a_killed_command_leaves_nothing_running(start: Start, options: list[str]) -> None:
    """Within a second; that it leaves no process, mount or cgroup is what every test here looks at."""
    one = start("run", *options, "host", "sh", "-c", "echo ready; exec sleep 60")
    assert one.line() == "ready\n"
    inside = [pid for pid in os.listdir("/proc") if pid.isdigit() and _is_child(pid, one.process.pid)]
    assert inside
    one.process.kill()
    one.process.wait()
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline and any(_runs(pid) for pid in inside):
        time.sleep(0.01)
    while time.monotonic() < deadline + 10 and any(_runs(pid) and is_dying(int(pid)) for pid in inside):
        time.sleep(0.01)  # they were killed, and a busy machine may take its time
    assert not any(_runs(pid) for pid in inside)


def test_a_killed_commands_cgroup_goes_with_the_next_launch(start: Start, cli: Cli, needs_root: None) -> None:
    one = start("run", "-m", "64m", "host", "sh", "-c", "echo ready; exec sleep 60")
    assert one.line() == "ready\n"
    one.process.kill()
    one.process.wait()
    time.sleep(0.3)  # the reaper ends what was in it
    assert cli("run", "-m", "64m", "host", "true").returncode == 0


def test_a_signal_during_the_launch_isnt_lost(start: Start) -> None:
    for delay in (0.02, 0.05, 0.1, 0.15):
        one = start("run", "host", "sleep", "60")
        time.sleep(delay)
        one.process.send_signal(signal.SIGTERM)
        assert one.status() in (128 + signal.SIGTERM, -signal.SIGTERM)  # the latter before we have begun


def _stat(pid: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return ["X", "0"]


def _is_child(pid: str, parent: int) -> bool:
    return _stat(pid)[1] == str(parent)


def _runs(pid: str) -> bool:
    return _stat(pid)[0] not in "XZ"
