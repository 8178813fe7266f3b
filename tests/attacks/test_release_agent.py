"""cgroup v1's release_agent runs on the host what a container writes there (CVE-2022-0492)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

WRITE = (
    "mkdir -p /tmp/cg; {mount} && echo mounted && echo /tmp/agent > /tmp/cg/release_agent && echo written; :"
)


@pytest.fixture
def v1() -> str:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup " in line:
            return line.split()[-1].split(",")[-1]
    pytest.skip("needs cgroup v1 mounted")


@pytest.mark.parametrize("kind", ["freezer", "none,name=attack"])
@pytest.mark.parametrize("options", [{}, {"userns": "private"}, {"seccomp": "unconfined"}, {"memory": "64M"}])
def test_a_container_cannot_mount_cgroups(
    kind: str, options: dict[str, Any], inside: Run, v1: str, needs_root: None
) -> None:
    r = inside(["sh", "-c", WRITE.format(mount=f"mount -t cgroup -o {kind} none /tmp/cg")], **options)
    assert r.stdout == "", r


@pytest.mark.parametrize(
    "options", [{"seccomp": "unconfined"}, {"seccomp": "unconfined", "userns": "private"}]
)
def test_nor_in_namespaces_of_its_own(
    options: dict[str, Any], inside: Run, v1: str, needs_root: None
) -> None:
    inner = WRITE.format(mount=f"mount -t cgroup -o {v1} none /tmp/cg")
    r = inside(["unshare", "-UrmC", "sh", "-c", inner], **options)
    assert "written" not in r.stdout, r


def test_one_that_may_mount_in_a_user_namespace_of_its_own_cannot_name_an_agent(
    inside: Run, v1: str, needs_root: None
) -> None:
    """In the host's user namespace it can, as under docker: docs/security.md says so."""
    look = f"mkdir /tmp/cg; mount -t cgroup -o {v1} none /tmp/cg && echo mounted; (: >> /tmp/cg/release_agent) && echo open; :"
    options: dict[str, Any] = {"cap_add": ["SYS_ADMIN"], "cgroupns": "private"}
    assert inside(["sh", "-c", look], userns="private", **options).stdout in ("", "mounted\n")
    assert (
        inside(["sh", "-c", look], userns="host", **{**options, "cgroupns": "host"}).stdout
        == "mounted\nopen\n"
    )


def test_the_cgroups_it_is_shown_are_read_only(inside: Run, v1: str, needs_root: None) -> None:
    script = "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs); do echo 0 > $f && echo written; done; :"
    assert inside(["sh", "-c", script], memory="64M").stdout == ""


def test_who_has_the_capability_outside_can_mount_and_see_it(
    v1: str, needs_root: None, tmp_path: Path
) -> None:
    script = f"mount -t cgroup -o {v1} none {tmp_path} && test -w {tmp_path}/release_agent && echo there"
    r = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert r.stdout == "there\n", r
