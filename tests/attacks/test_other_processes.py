"""Reading, tracing and signalling processes that are not the container's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import pyminicon
from tests.support.processes import marked_soon

Run = Callable[..., Any]
LOOKS = ("maps", "readv", "mem", "environ", "getfd", "ptrace")


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "1000"}, {"userns": "private"}])
def test_a_container_cannot_look_into_the_launcher_even_when_it_sees_it(
    options: dict[str, Any], hostile: Run, needs_root: None
) -> None:
    if not options.keys() & {"userns", "init"}:  # with the host's PID namespace, so with a number for it
        found = hostile("peek", os.getpid(), pid="host", pids=50, **options)
        assert found["pidfd"] == (0, 0)
        assert {name: found[name][0] for name in LOOKS} == dict.fromkeys(LOOKS, -1)
    found = hostile("peek", os.getpid(), **options)
    assert found["pidfd"][0] == -1 and all(found[name][0] == -1 for name in LOOKS)


def test_the_same_looks_succeed_outside(outside: Run, running: Run, needs_root: None) -> None:
    target = running("hold")
    target.stdout.readline()
    found = outside("peek", target.pid)
    assert {name: found[name][0] for name in LOOKS if name != "readv"} == dict.fromkeys(
        [n for n in LOOKS if n != "readv"], 0
    )
    assert found["readv"][0] > 0


@pytest.mark.parametrize("user", ["1000", "0"])
def test_a_container_cannot_look_into_another_of_the_same_user(
    user: str, hostile: Run, attack: Any, needs_root: None
) -> None:
    volume = f"{attack}:/attack:ro"
    with pyminicon.start(
        ["/attack", "hold"], user=user, volumes=[volume], stdout=subprocess.PIPE
    ) as neighbour:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        found = hostile("peek", neighbour.pid, user=user)
        assert found["pidfd"][0] == -1 and all(found[name][0] == -1 for name in LOOKS)


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "1000"}, {"userns": "private"}])
def test_a_container_cannot_signal_outside(
    options: dict[str, Any], inside: Run, running: Run, needs_root: None
) -> None:
    user = int(options.get("user", 0))
    victim = running("hold", user=user)
    victim.stdout.readline()
    script = f"kill -9 {victim.pid}; kill -9 -1; kill -9 -{os.getpgid(victim.pid)}; for n in $(seq {victim.pid - 5} {victim.pid + 5}); do kill -9 $n; done; :"
    inside(["setsid", "sh", "-c", script], **options)
    assert victim.poll() is None and os.getpid()
    subprocess.run(["sh", "-c", f"kill -9 {victim.pid}"], check=True, user=user)
    assert victim.wait() == -9


def test_a_container_cannot_signal_its_launchers_process_group(inside: Run) -> None:
    """The group it was born in is left: kill(0) stays inside."""
    r = inside(["sh", "-c", "trap '' TERM; kill 0; echo alive; cut -d' ' -f5,6 /proc/self/stat"])
    assert r.stdout.splitlines()[0] == "alive" and r.stdout.splitlines()[1].split()[0] == "1"


def test_only_its_own_processes_are_there_to_see(inside: Run) -> None:
    mark = f"73{os.getpid()}"
    script = f"ls /proc | grep -c '^[0-9]'; cat /proc/[0-9]*/cmdline | grep -ac '{mark[0]}[{mark[1]}]{mark[2:]}'; :"
    with subprocess.Popen(["sleep", mark]) as ours:
        found = marked_soon(mark)
        count, seen = inside(["sh", "-c", script]).stdout.split()
        ours.kill()
    assert found == [ours.pid]
    assert int(count) <= 4 and seen == "0"
