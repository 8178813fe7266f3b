"""The peers start what we start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import bundles, rootfs
from benchmarks.peers import spawned
from benchmarks.rooms import UnifiedRoom

root_only = pytest.mark.skipif(os.getuid() != 0, reason="the peers are started as root")


def test_a_bundle_asks_for_dockers_defaults() -> None:
    made = bundles.config("/root", cgroup="/x", with_seccomp=False)
    kinds = {"pid", "network", "ipc", "uts", "mount", "cgroup"}
    assert {n["type"] for n in made["linux"]["namespaces"]} == kinds
    assert len(made["process"]["capabilities"]["bounding"]) == 14
    assert "/proc/keys" in made["linux"]["maskedPaths"] and "/proc/sys" in made["linux"]["readonlyPaths"]
    assert "seccomp" not in made["linux"]


def test_the_distributions_profile_keeps_what_our_capabilities_allow() -> None:
    profile = bundles.seccomp()
    if profile is None:
        pytest.skip("no distribution profile is installed")
    allowed = {n for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for n in rule["names"]}
    assert {"read", "execve", "chroot"} <= allowed  # CAP_SYS_CHROOT is one of the fourteen
    assert not {"init_module", "kexec_load", "open_by_handle_at"} & allowed


@root_only
def test_a_command_that_fails_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="wait status"):
        spawned(["false"])()
    assert spawned(["true"])() > 0


@root_only
def test_the_room_has_a_pure_cgroup2_tree_and_nobody_else_sees_it() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with UnifiedRoom() as room:
        inside = room.call(lambda: Path("/proc/thread-self/mountinfo").read_text())
    tops = [line for line in inside.splitlines() if line.split()[4] == "/sys/fs/cgroup"]
    assert " - cgroup2 " in tops[-1]
    assert Path("/proc/self/mountinfo").read_text() == before


@root_only
@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed")
def test_a_bundle_runs_under_runc_and_says_what_the_payload_says(tmp_path: Path) -> None:
    made = bundles.config(str(rootfs.minimal()), cgroup="/runc-bench-test", with_seccomp=True)
    made["process"]["args"] = [rootfs.PROGRAM, "w"]
    (tmp_path / "config.json").write_text(json.dumps(made))
    command = ["runc", "--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path), "bench-test"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout == "hello from inside\n", done.stderr
