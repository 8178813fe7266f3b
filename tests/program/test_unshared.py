"""A program that has left one of its namespaces without a fork: what can't be launched from there says why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.program.conftest import environment

CODE = """
import ctypes, os, sys
import pyminicon
pyminicon.load()
if {before}:
    pyminicon.run(["true"])
assert ctypes.CDLL(None).unshare({flags}) == 0
{fork}
for _ in range(2):
    try:
        print(pyminicon.run(["true"]{options}).returncode)
    except pyminicon.LaunchError as error:
        print(error.stage, error.hint)
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to unshare a namespace by itself")
NEWPID, NEWCGROUP = 0x20000000, 0x02000000
FORK = "if (pid := os.fork()):\n    os.waitpid(pid, 0)\n    sys.exit()"


def said(flags: int, *, before: bool = False, fork: bool = False, options: str = "") -> list[str]:
    code = CODE.format(flags=flags, before=before, fork=FORK if fork else "", options=options)
    r = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not r.stderr, r.stderr
    return r.stdout.splitlines()


@pytest.mark.parametrize("before", [False, True])
def test_whose_children_begin_in_another_pid_namespace_is_told_to_fork(before: bool) -> None:
    hint = "children of this process begin in another PID namespace: fork after unshare(CLONE_NEWPID)"
    # Whoever is the namespace's first and lives a moment longer lets another be cloned: the first guard, say.
    stages = {"clone"} if before else {"watch", "clone"}
    told = said(NEWPID, before=before)
    assert len(told) == 2 and {line.partition(" ")[2] for line in told} == {hint}, told
    assert {line.partition(" ")[0] for line in told} <= stages, told


def test_and_the_forked_child_launches() -> None:
    assert said(NEWPID, fork=True) == ["0", "0"]


def test_whose_cgroups_are_mounted_from_outside_its_namespace_is_told_so() -> None:
    answers = said(NEWCGROUP, options=", memory='64M'")
    # Nothing is hidden from whoever is in the root of all trees.
    assert len(set(answers)) == 1
    assert answers[0] == "0" or "after unshare(CLONE_NEWCGROUP)" in answers[0], answers
    assert said(NEWCGROUP) == ["0", "0"]
