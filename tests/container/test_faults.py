"""A fault at every system call of the child: the launch fails with its stage, or did what was asked; never a
hang, never a leftover."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.python import environment

EIO = 5

#: Calls whose failure changes nothing that was asked for: what is closed was only tidying (the descriptors go
#: at exec), a core limit of 1 that is refused becomes 0, and masks for which /proc can't be entered are made by
#: descriptor. The program looks whether they hold. A network namespace that can't be joined is made.
MAY_FAIL_PLAIN = {
    *("none", "close", "prlimit64", "fchdir", "setns", "sched_yield", "futex", "clock_gettime"),
}
#: The capabilities that the helper carries over are missed at the next mount if they are needed. The rest are
#: pid 1's of init=True, which tries them again; without the memory that it shares with workers it refuses commands,
#: and where it doesn't know its directory each command looks.
MAY_FAIL = MAY_FAIL_PLAIN | {
    *(
        "prctl",
        "mmap",
        "munmap",
        "wait4",
        "read",
        "ppoll",
        "setsid",
        "exit_group",
        "close_range",
        "getcwd",
    ),
}


@pytest.fixture(scope="session")
def injector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs the internet: no C compiler is installed")
    tool = tmp_path_factory.mktemp("inject") / "inject"
    source = Path(__file__).parents[1] / "support/inject.c"
    subprocess.run([compiler, "-O1", "-x", "c", source, "-o", tool], check=True)
    return tool


def launches(
    injector: Path, root: Path, kind: str, error: int, first: int, step: int
) -> list[dict[str, object]]:
    if kind in ("limits", "users") and os.geteuid() != 0:
        pytest.skip(
            "needs root: cgroups may be nobody else's, and newuidmap gains nothing while it is traced"
        )
    names = {**environment(), "PYMINICON_TEST_ROOT": str(root)}
    command = [sys.executable, "-m", "tests.support.faults", injector, kind, *map(str, (error, first, step))]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=names, cwd="/", timeout=400
    )
    if "ptrace: Operation not permitted" in done.stderr:
        pytest.skip("needs root to trace (kernel.yama.ptrace_scope)")
    assert done.returncode == 0, done.stderr + done.stdout[-500:]
    return [json.loads(line) for line in done.stdout.splitlines()]


KINDS = ["directory", "read_only", "everything", "users", "clock", "limits", "disk"]


def check(lines: list[dict[str, object]], allowed: set[str]) -> None:
    assert len(lines) > 10
    assert lines[-1]["name"] == "none", "the last launch has no fault"
    assert lines[-1]["outcome"] == "ok"
    for line in lines:
        assert not line.get("left"), line
        if line["name"] == "netns_helper":
            assert line["outcome"] == "ok", "what the netns helper can't do the child does"
        elif line["outcome"] == "ok":
            assert line["name"] in allowed, line
        elif line["outcome"] == "unknown":
            assert line["name"] == "write", "pid 1 couldn't tell the program's status, and said so"
        else:
            stage, _, number = str(line["outcome"]).partition(": ")
            assert number.isdigit(), line
            assert stage.replace("_", "").isalpha(), line
    assert any(line["outcome"] != "ok" for line in lines)


def test_an_error_at_every_call_of_a_plain_launch_fails_it_cleanly(injector: Path, rootfs: Path) -> None:
    lines = launches(injector, rootfs, "plain", EIO, 1, 1)
    check(lines, MAY_FAIL_PLAIN)
    assert (
        len(os.sched_getaffinity(0)) == 1
        or os.geteuid()
        or any(line["name"] == "netns_helper" for line in lines)
    )


@pytest.mark.slow_in_vm
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_at_any_call_of_any_kind_of_launch_fails_it_cleanly(
    injector: Path, rootfs: Path, kind: str
) -> None:
    check(launches(injector, rootfs, kind, EIO, 1 + len(kind) % 4, 4), MAY_FAIL)


def test_an_error_at_each_of_the_last_calls_of_init_leaves_nobody_waiting(
    injector: Path, rootfs: Path
) -> None:
    # A launch differs from the next by a few calls, so the last one is hit only now and then.
    for _ in range(10):
        calls = launches(injector, rootfs, "everything", EIO, 100000, 1)[0]["of"]
        assert isinstance(calls, int)
        lines = launches(injector, rootfs, "everything", EIO, calls - 50, 1)
        check(lines, MAY_FAIL)
        if "exit_group" in {line["name"] for line in lines}:
            return
    pytest.fail("the last call was never the one with the fault")


@pytest.mark.slow_in_vm
@pytest.mark.parametrize("kind", ["plain", "everything", "users"])
def test_a_child_that_is_killed_while_being_set_up_is_a_failed_launch(
    injector: Path, rootfs: Path, kind: str
) -> None:
    lines = launches(injector, rootfs, kind, 0, 2, 9)
    for line in lines[:-1]:
        assert line["outcome"] != "ok" or line["name"] in ("exit_group", "wait4", "ppoll", "netns_helper"), (
            line
        )
    assert not any(line.get("left") for line in lines)
    assert lines[-1]["outcome"] == "ok"
