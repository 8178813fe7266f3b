"""Every stage of a launch can fail, and here does: the error names it, and nothing is left."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import _core
from tests.support.deny import ERRNO
from tests.support.python import environment

TIOCSCTTY = 0x540E

#: stage: (the call that is made to fail, its second argument if only then, options, subject)
DENIED: dict[str, tuple[str, int | None, dict[str, Any], str]] = {
    "publish": ("listen", None, {"publish": ["0:80"]}, "127.0.0.1:0"),
    "prepare": ("socketpair", None, {"collect": ["/x"]}, "socketpair"),
    "watch": ("pidfd_open", None, {"warm": False}, "pidfd_open"),
    "clone": ("clone3", None, {}, ""),
    "helper": ("execveat", None, {"init": True}, ""),
    "signals": ("prlimit64", None, {}, ""),
    "userns": ("setresgid", None, {"userns": "private"}, ""),
    "timens": ("unshare", None, {"time": "private"}, ""),
    "hostname": ("sethostname", None, {"hostname": "box"}, "box"),
    "mountns": ("mount", None, {}, ""),
    "rootfs": ("mkdirat", None, {}, ""),
    "mount": ("openat2", None, {}, "/usr"),
    "pivot_root": ("pivot_root", None, {}, ""),
    "loopback": ("socket", None, {}, ""),
    "gate": ("listen", None, {"egress": []}, ""),
    "collect": ("sendmsg", None, {"collect": ["/x"]}, ""),
    "park": ("recvmsg", None, {"template": True}, ""),
    "stdio": ("dup3", None, {"stdin": -3}, "descriptor 0"),
    "init": ("clone", None, {"init": True}, ""),
    "session": ("setsid", None, {}, ""),
    "terminal": ("ioctl", TIOCSCTTY, {"tty": True}, ""),
    "cwd": ("getcwd", None, {"cwd": "/usr"}, "/usr"),
    "fds": ("close_range", None, {}, ""),
    "user": ("setgroups", None, {"user": "5:6"}, "5:6"),
    "capabilities": ("capset", None, {}, ""),
    "landlock": ("landlock_restrict_self", None, {"files": {"/x": b""}}, ""),
    "seccomp": ("seccomp", None, {}, ""),
    "exec": ("execve", None, {}, "/bin/true"),
}

#: Stages that fail by themselves below, or in the tests of what they are about.
ELSEWHERE = {
    "none": "before any launch",
    "started": "the program runs",
    "network": "test_a_caller_who_may_not_unshare_gets_it_from_clone",
    "sysfs": "test_an_image_cannot_lead_the_mounts_of_proc_sys_and_dev_away",
    "sysctl": "test_a_setting_that_the_kernel_refuses_is_named",
    "cgroup": "test_a_cgroup_that_cannot_be_made_is_an_error",
    "cgroup_join": "test_faults, kind 'limits'",
    "cgroupns": "test_faults, kind 'limits'",
    "rlimit": "test_a_limit_above_what_the_kernel_allows_is_an_error",
}


def test_every_stage_has_a_test_that_makes_it_fail() -> None:
    assert set(DENIED) | set(ELSEWHERE) == set(_core.STAGES)


@pytest.mark.parametrize("stage", DENIED)
def test_a_stage_that_fails_is_named_and_leaves_nothing(stage: str, needs_root: None) -> None:
    call, argument, options, subject = DENIED[stage]
    words = [call, *([str(argument)] if argument is not None else []), "--", repr(options)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.deny", *words],
        capture_output=True, text=True, check=False, env=environment(), cwd="/", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("left") == {}
    text = told.pop("text", "")
    if stage == "park" and told["stage"] == "collect":  # the same call takes the root that is handed out
        stage, subject = "collect", "descriptor of the root"
    assert told == {"stage": stage, "errno": ERRNO, "subject": subject}
    assert text.startswith(f"{stage}: {subject}: Protocol error" if subject else f"{stage}: Protocol error")


def test_a_cgroup_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(pyminicon.Error) as caught:
        pyminicon.run(["true"], memory="64M", cgroup_parent=str(tmp_path))
    assert str(caught.value).startswith(("cgroup", "cgroup_parent"))


def test_a_limit_above_what_the_kernel_allows_is_an_error() -> None:
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["true"], rlimits={"nofile": 1 << 40})
    assert (caught.value.stage, caught.value.subject, caught.value.errno) == ("rlimit", "nofile", errno.EPERM)


def test_every_limit_is_named_when_it_is_refused(as_user: Callable[..., Any]) -> None:
    done = as_user("""
import pyminicon, resource
from pyminicon.options.rlimits import NAMES
for name, number in NAMES.items():
    hard = resource.getrlimit(number)[1]
    if hard < 0:
        continue
    try:
        pyminicon.run(['/bin/true'], rlimits={'cpu': 5, name: hard + 1})
    except pyminicon.LaunchError as error:
        assert (error.stage, error.subject) == ('rlimit', name), (name, error)
        print(name, end=' ')
""")
    assert done.stderr == ""
    assert {"nofile", "nice", "rtprio"} <= set(done.stdout.split())


def test_a_program_without_descriptors_left_gets_an_error() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for _ in range(8):
            with pytest.raises((pyminicon.LaunchError, OSError)) as caught:
                pyminicon.run(["true"], init=True, capture_output=True, collect=["/x"])
            assert caught.value.errno == errno.EMFILE
            os.close(held.pop())
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_error_with_its_hint_is_one_sentence() -> None:
    with pytest.raises(pyminicon.LaunchError) as caught:
        pyminicon.run(["/bin/true"], rlimits={"nofile": 1 << 40})
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, pyminicon.Error)
