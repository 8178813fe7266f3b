"""What is frozen can be ended, where cgroup v2 doesn't do it: with v1's freezer alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.python import environment


@pytest.fixture
def v1_alone(needs_root: None) -> list[str]:
    """The words before a command that give it a mount namespace where no cgroup v2 is mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if not any(words[2] == "cgroup" and "freezer" in words[3].split(",") for words in mounts):
        pytest.skip("needs cgroup v1")
    unified = [words[1] for words in mounts if words[2] == "cgroup2"]
    hide = "".join(f"umount {path} && " for path in unified)
    return ["unshare", "-m", "sh", "-c", f'{hide}exec "$@"', "sh"]


def python(before: list[str], code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    words = [*before, sys.executable, "-c", code]
    options = {"env": environment(), "capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run(words, check=False, **options)


def frozen(then: str, options: str = 'memory="64M"') -> str:
    """A program that starts a container, freezes it, and goes on with ``then``."""
    return f"""
import os, signal, sys, time
import pyminicon
null = dict.fromkeys(("stdin", "stdout", "stderr"), pyminicon.DEVNULL)
c = pyminicon.start(["sh", "-c", "sleep 61 & exec sleep 61"], {options}, **null)
c.freeze()
print(c.pid, flush=True)
{then}
"""


@pytest.mark.parametrize("options", ['memory="64M"', "pids=20", 'pid="host"'])
@pytest.mark.parametrize("way", ["c.kill()", "c.send_signal(9)"])
def test_a_frozen_container_is_killed(way: str, options: str, v1_alone: list[str]) -> None:
    r = python(v1_alone, frozen(f"{way}; print(c.wait(10))", options))
    assert r.stdout.split()[1:] == ["-9"], r.stderr


def test_a_frozen_container_goes_on_when_it_is_thawed(v1_alone: list[str]) -> None:
    then = "c.send_signal(15); time.sleep(0.3); assert c.poll() is None; c.thaw(); print(c.wait(10))"
    r = python(v1_alone, frozen(then, 'memory="64M", init=True'))
    assert r.stdout.split()[1:] == ["-15"], r.stderr


def test_a_limit_of_time_ends_what_is_frozen(v1_alone: list[str]) -> None:
    r = python(v1_alone, frozen("print(c.wait(10), c.limit)", 'memory="64M", wall_time=1'))
    assert r.stdout.split()[1:] == ["-9", "wall_time"], r.stderr


def test_closing_ends_what_is_frozen(v1_alone: list[str]) -> None:
    then = "c.close(); print(os.path.exists(f'/proc/{c.pid}'))"
    r = python(v1_alone, frozen(then))
    assert r.stdout.split()[1:] == ["False"], r.stderr


def gone(pid: str, within: float = 10) -> bool:
    until = time.monotonic() + within
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
        time.sleep(0.02)
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("options", ['memory="64M"', 'pid="host"'])
def test_a_frozen_container_ends_with_its_caller(options: str, v1_alone: list[str]) -> None:
    r = python(v1_alone, frozen("os.kill(os.getpid(), 9)", options))
    assert r.returncode == -9 and gone(r.stdout.strip()), r.stderr
    sweep(v1_alone)


def test_what_a_caller_and_its_guards_left_frozen_is_swept(v1_alone: list[str]) -> None:
    """The next program that uses limits ends it, and removes its cgroups."""
    kill_reaper = """
table = [int(n) for n in os.listdir("/proc") if n.isdigit()]
guards = []
for n in table:
    try:
        words = open(f"/proc/{n}/cmdline").read().split(chr(0))
        mine = os.stat(f"/proc/{n}/ns/mnt").st_ino == os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        continue
    if words[0] == "pyminicon-watch" and mine: guards.append(n)
for number in (19, 9):  # stopped first, or one would replace the other
    for n in guards: os.kill(n, number)
os.kill(os.getpid(), 9)
"""
    r = python(v1_alone, frozen(kill_reaper))
    assert r.returncode == -9, r.stderr
    pid = r.stdout.strip()
    assert not gone(pid, 0.5)
    sweep(v1_alone)
    assert gone(pid)


def sweep(v1_alone: list[str]) -> None:
    code = """
import glob, time, pyminicon
from pyminicon.cgroups import sweep as cgroup_sweep
pyminicon.run(["true"], pids=5)
def left():
    found = glob.glob("/sys/fs/cgroup/**/pyminicon-*", recursive=True)
    return [path for path in found if cgroup_sweep.is_dead(path.rpartition("/")[2])]
until = time.monotonic() + 30
while left() and time.monotonic() < until:  # other programs that end meanwhile have their guards for it
    time.sleep(0.1)
print(left())
"""
    r = python(v1_alone, code)
    assert r.stdout == "[]\n", (r.stdout, r.stderr)
