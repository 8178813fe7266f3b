"""A crash inside must not run the host's core handler nor leave a picture of the caller's memory."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "1000"}, {"seccomp": "unconfined"}])
def test_a_crash_leaves_no_core(
    options: dict[str, Any], inside: Run, tmp_path: Path, needs_root: None
) -> None:
    tmp_path.chmod(0o777)
    script = "cat /proc/self/limits | grep core; sh -c 'kill -SEGV $$'; sh -c 'kill -ABRT $$'; ls -a"
    r = inside(["sh", "-c", script], volumes=[f"{tmp_path}:/data"], cwd="/data", **options)
    # One byte: unlike 0 it also stops a handler that the pattern pipes to (core(5)).
    assert r.stdout.split()[4:6] == ["1", "1"] and "core" not in r.stdout.split("bytes")[1]
    assert list(tmp_path.iterdir()) == []
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        subprocess.run(["sh", "-c", "ulimit -c unlimited; kill -SEGV $$"], cwd=tmp_path, check=False)
        pattern = Path("/proc/sys/kernel/core_pattern").read_text()
        assert list(tmp_path.iterdir()) or pattern.startswith("/")


def test_a_container_cannot_lower_the_limit_to_the_zero_that_runs_a_handler(hostile: Run) -> None:
    """It is told that it had: su, sshd and `ulimit -c 0` end at any error."""
    zero, asked = "d:" + "00" * 16, {"call": (0, 0)}
    for call in (
        (160, 4, zero),
        (302, 0, 4, zero, 0),
        (160, (1 << 32) | 4, zero),
        (302, 0, (1 << 32) | 4, zero, 0),
    ):
        assert hostile("sys", *call) == asked
    assert hostile("sys", 302, 0, 4, zero, zero)["call"][0] == -1  # who asks for the old one reads what is so
    # Another limit may be set.
    assert hostile("sys", 160, 3, "d:" + "0000100000000000" * 2)["call"] == (0, 0)


LOWERED = "ulimit -c 0 && echo done; grep core /proc/self/limits"


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "1000"}, {"userns": "private"}], ids=repr)
def test_a_program_that_forbids_itself_cores_goes_on_and_the_limit_stays(
    options: dict[str, Any], inside: Run, needs_root: None
) -> None:
    said = inside(["sh", "-ec", LOWERED], **options).stdout.split()
    assert (said[0], said[5:7]) == ("done", ["1", "1"])
    # Without the filter it is really set.
    said = inside(["sh", "-ec", LOWERED], seccomp="unconfined", **options).stdout.split()
    assert (said[0], said[5:7]) == ("done", ["0", "0"])


@pytest.mark.parametrize("asked", [False, True], ids=["no core limit asked for", "cores asked for"])
def test_a_profile_that_kills_the_launch_leaves_no_core_of_the_caller(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = {"rlimits": {"core": -1}} if asked else {}
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    try:
        assert (
            pyminicon.run(["true"], seccomp=profile, **limits).returncode == -31
        )  # SIGSYS at the exec itself
    except pyminicon.LaunchError as error:
        assert error.stage == "exec"
    assert list(tmp_path.iterdir()) == []
    profile["syscalls"] = []
    assert pyminicon.run(["true"], seccomp=profile, **limits).returncode == 0


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("image", ["host", "rootfs"])
def test_a_profile_that_refuses_even_the_end_is_an_error_and_no_hang(
    init: bool, image: str, rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = "host" if image == "host" else str(rootfs)
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["true"], image=where, init=init, seccomp={"defaultAction": "SCMP_ACT_ERRNO"})
    assert (caught.value.stage, caught.value.errno) == ("init" if init else "exec", errno.EPERM)
    assert list(tmp_path.iterdir()) == []


def test_cores_may_be_asked_for_without_any_power(as_user: Callable[..., Any]) -> None:
    done = as_user("""
import pyminicon, resource
soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
line = 'ulimit -c; ulimit -Hc'
told = [pyminicon.run(['sh', '-c', line], capture_output=True, text=True, rlimits={'core': row}, init=init).stdout.split()
        for row in ((512 * 20, -1), (0, 0)) for init in (False, True)]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
told.append(pyminicon.run(['sh', '-c', line], capture_output=True, text=True).stdout.split())
print(told if hard == -1 else 'needs a hard limit')
""")
    if "needs" in done.stdout:
        pytest.skip(done.stdout)
    high, low = ["20", "unlimited"], ["0", "0"]
    assert done.stdout == f"{[high, high, low, low, low]}\n", done.stderr


def test_a_core_that_was_asked_for_is_written(inside: Run, tmp_path: Path, needs_root: None) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text()[0] in "|/":
        pytest.skip("needs a core_pattern that is a file's name")
    tmp_path.chmod(0o777)
    script = "sh -c 'kill -SEGV $$'; exit 0"
    inside(["sh", "-c", script], volumes=[f"{tmp_path}:/data"], cwd="/data", rlimits={"core": -1})
    assert list(tmp_path.iterdir()) != []


@pytest.fixture
def handler(tmp_path: Path, needs_root: None) -> Iterator[Path]:
    """What the core pattern pipes to leaves this file. The pattern is the whole machine's."""
    if "PYMINICON_VM" not in os.environ:
        pytest.skip("needs a machine of its own")
    pattern = Path("/proc/sys/kernel/core_pattern")
    before, script, ran = pattern.read_text(), tmp_path / "handler", tmp_path / "ran"
    script.write_text(f"#!/bin/sh\ncat > {ran}\n")
    script.chmod(0o755)
    pattern.write_text(f"|{script}")
    yield ran
    pattern.write_text(before)


def has_run(ran: Path) -> bool:
    until = time.monotonic() + 3
    while not ran.exists() and time.monotonic() < until:
        time.sleep(0.05)
    found = ran.exists()
    ran.unlink(missing_ok=True)
    return found


def test_a_crash_runs_no_handler_that_the_core_pattern_pipes_to(handler: Path) -> None:
    crash = ["sh", "-c", "kill -SEGV $$"]
    for options in ({}, {"init": True}, {"user": "1000"}, {"userns": "private"}):
        pyminicon.run(["sh", "-c", "sh -c 'kill -SEGV $$'; :"], **options)  # type: ignore[arg-type]
        assert not has_run(handler), options
    # Zero doesn't keep it away; that is why the limit is 1.
    for limit in (resource.RLIM_INFINITY, 0):
        subprocess.run(
            crash, check=False, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
        )  # fmt: skip
        assert has_run(handler), limit


def test_a_caller_who_cannot_keep_the_handler_away_gets_no_container(handler: Path, as_user: Run) -> None:
    code = """
import resource, pyminicon
print(pyminicon.run(["true"]).returncode)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for options in ({}, {"init": True}):
    try: print(pyminicon.run(["true"], **options).returncode)
    except pyminicon.LaunchError as error: print(error.stage, "core_pattern" in str(error))
"""
    assert as_user(code).stdout.splitlines() == ["0", "signals True", "signals True"]
