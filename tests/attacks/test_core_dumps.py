"""A crash inside must not run the host's core handler nor leave a picture of the caller's memory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]
ENOSYS = 38


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
    zero = "d:" + "00" * 16
    assert hostile("sys", 160, 4, zero)["call"][0] == -1
    assert hostile("sys", 302, 0, 4, zero, 0)["call"][0] == -1
    assert hostile("sys", 160, (1 << 32) | 4, zero)["call"][0] == -1
    assert hostile("sys", 302, 0, (1 << 32) | 4, zero, 0)["call"][0] == -1
    # Another limit may be set, and without the filter this one too.
    assert hostile("sys", 160, 3, "d:" + "0000100000000000" * 2)["call"] == (0, 0)
    assert hostile("sys", 160, 4, zero, seccomp="unconfined")["call"] == (0, 0)


def test_a_profile_that_kills_the_launch_leaves_no_core_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    try:
        assert pyminicon.run(["true"], seccomp=profile).returncode == -31  # SIGSYS at the exec itself
    except pyminicon.LaunchError as error:
        assert error.stage == "exec"
    assert list(tmp_path.iterdir()) == []
    profile["syscalls"] = []
    assert pyminicon.run(["true"], seccomp=profile).returncode == 0
