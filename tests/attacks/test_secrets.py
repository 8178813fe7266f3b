"""The caller's environment, arguments and keys."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyminicon.options import parse as specs
from pyminicon.plan import build as plans

Run = Callable[..., Any]


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "1000"}])
@pytest.mark.parametrize("image", ["host", "python"])
def test_a_container_cannot_find_the_callers_environment(
    options: dict[str, Any], image: str, inside: Run, monkeypatch: pytest.MonkeyPatch, needs_root: None
) -> None:
    monkeypatch.setenv("API_TOKEN", "s3cret-of-the-host")
    r = inside(
        ["sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'"],
        image=image,
        **options,
    )
    assert "s3cret" not in r.stdout and "API_TOKEN" not in r.stdout and "PATH=" in r.stdout
    assert "s3cret" in subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert (
        "s3cret" in inside(["env"], image=image, env={"API_TOKEN": os.environ["API_TOKEN"]}, **options).stdout
    )


def test_a_container_cannot_read_the_hosts_secrets_from_files(inside: Run, needs_root: None) -> None:
    script = "cat /etc/shadow /etc/gshadow /root/.bash_history /root/.ssh/* /etc/ssh/*key; ls -A -I .containerenv /root /home /run /var/log /srv /mnt /boot | grep -v : | tr -d '\\n'"
    r = inside(["sh", "-c", script])
    assert r.stdout == "" and Path("/etc/shadow").exists()


def test_a_container_cannot_use_the_callers_keyring(hostile: Run, outside: Run) -> None:
    get_session = ("sys", 250, 0, -3, 0)
    ours = outside(*get_session)["call"]
    assert hostile(*get_session)["call"] == (-1, 1)
    theirs = hostile(*get_session, seccomp="unconfined")["call"]
    assert theirs[0] == -1 or theirs[0] != ours[0]


NO_KEYS: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["add_key", "keyctl", "request_key"], "action": "SCMP_ACT_ERRNO"}],
}
KEYCTL: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": NO_KEYS["syscalls"][:0]}


@pytest.mark.parametrize("seccomp", ["unconfined", KEYCTL], ids=["unconfined", "a profile"])
def test_a_container_that_may_call_keyctl_has_a_session_keyring_of_its_own(
    seccomp: Any, hostile: Run, outside: Run, needs_root: None
) -> None:
    """keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) tells its number."""
    one, other = (hostile("sys", 250, 0, -3, 0, seccomp=seccomp)["call"][0] for _ in range(2))
    assert one > 0 and other > 0 and len({one, other, outside("sys", 250, 0, -3, 0)["call"][0]}) == 3


@pytest.mark.parametrize("options", [{}, {"seccomp": NO_KEYS}, {"cap_add": ["SYS_ADMIN"]}], ids=str)
def test_one_that_may_not_gets_none_made(options: dict[str, Any], hostile: Run) -> None:
    """A user may have 200: a launch that makes one for nothing would take them from others."""
    assert hostile("sys", 250, 0, -3, 0, **options)["call"] == (-1, 1)
    assert not plans.build(specs.parse(["true"], options)).fields.get("new_keyring")
