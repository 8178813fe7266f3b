"""/proc and /sys: what is hidden, what can't be written, and writes that are led astray."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.plan import tree

Run = Callable[..., Any]

HIDDEN = ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
          "/proc/sched_debug", "/proc/interrupts"]  # fmt: skip
EMPTY = ["/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"]
SYSCTLS = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
           "/proc/sys/vm/drop_caches", "/proc/sys/fs/file-max", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
           "/proc/sys/kernel/poweroff_cmd", "/proc/sys/kernel/ns_last_pid", "/proc/sys/vm/overcommit_memory"]  # fmt: skip
SYSFS = ["/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/mm/transparent_hugepage/enabled",
         "/sys/devices/system/cpu/cpu1/online", "/sys/module/printk/parameters/time", "/sys/kernel/profiling"]  # fmt: skip


# A private user namespace owns none of these files: EACCES comes before EROFS there.
REFUSED = re.compile("Read-only file system|Permission denied")


def exist(paths: list[str]) -> list[str]:
    found = [path for path in paths if os.path.exists(path)]
    assert found, "this kernel has none of them"
    return found


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "1000"}, {"userns": "private"}])
def test_a_container_cannot_read_what_tells_of_the_kernel(
    options: dict[str, Any], inside: Run, needs_root: None
) -> None:
    r = inside(
        [
            "sh",
            "-c",
            f"cat {' '.join(exist(HIDDEN))} | wc -c; ls {' '.join(exist(EMPTY))} | grep -v : | tr -d '\\n' | wc -c",
        ],
        **options,
    )
    assert r.stdout.split() == ["0", "0"], r
    assert subprocess.run(
        ["cat", "/proc/timer_list", "/proc/interrupts"], capture_output=True, check=False
    ).stdout


@pytest.mark.parametrize("options", [{}, {"userns": "private"}])
def test_of_several_masked_directories_each_is_empty_and_sealed(
    options: dict[str, Any], inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = [path for path in ("/sys/firmware", "/sys/power", "/sys/kernel/mm") if os.path.isdir(path)]
    look = f"ls -A {' '.join(masked)} | grep -v :; grep ' /sys/' /proc/self/mountinfo | cut -d' ' -f4-6"
    monkeypatch.setattr(tree, "_MASKED_SYS", tuple(path[1:] for path in masked))
    told = inside(["sh", "-c", look], **options).stdout.split("\n")
    sealed = [line for line in told if line]
    throttles = [line for line in sealed if "thermal_throttle" in line]
    assert sorted(set(sealed) - set(throttles)) == sorted(
        f"/empty {path} ro,nosuid,nodev,noexec,relatime" for path in masked
    )
    assert all(line.startswith("/empty ") and " ro,nosuid,nodev,noexec," in line for line in throttles)


UNMASK = """
umount /proc/timer_list && echo unmasked; head -c 1 /proc/timer_list
umount /proc/sys; (: >> /proc/sys/kernel/core_pattern) && echo pattern
mount -t proc none /mnt; (: >> /mnt/sys/kernel/core_pattern) && echo fresh; (: >> /mnt/sysrq-trigger) && echo sysrq
mount -o remount,rw /sys; (: >> /sys/kernel/uevent_helper) && echo helper
:"""


@pytest.mark.parametrize("seccomp", ["default", "unconfined"])
def test_one_that_may_mount_in_a_user_namespace_of_its_own_finds_the_hosts_files_behind_the_masks(
    seccomp: str, inside: Run, needs_root: None
) -> None:
    """It takes masks off, and what is behind them belongs to the host's root."""
    options: dict[str, Any] = {"cap_add": ["SYS_ADMIN"], "seccomp": seccomp}
    assert inside(["sh", "-c", UNMASK], userns="private", **options).stdout == "unmasked\n"
    # In the host's user namespace it is root on this machine: docs/security.md says so.
    seen = inside(["sh", "-c", UNMASK], userns="host", **options).stdout
    assert "unmasked" in seen and "pattern" in seen


def test_a_hidden_file_is_the_null_device_and_no_link_of_the_image(own_rootfs: Path, inside: Run) -> None:
    for trap in ("null", "zero"):
        (own_rootfs / "dev" / trap).symlink_to("/etc/passwd")
    script = f"stat -c '%F %t:%T' {' '.join(exist(HIDDEN))}"
    lines = inside(["sh", "-c", script], image=str(own_rootfs)).stdout.splitlines()
    assert set(lines) == {"character special file 1:3"}


@pytest.mark.parametrize("options", [{}, {"init": True}, {"userns": "private"}])
def test_a_container_cannot_write_sysctls_or_sysrq(
    options: dict[str, Any], inside: Run, needs_root: None
) -> None:
    for path in exist(SYSCTLS):
        r = inside(["sh", "-c", f"test -w {path} && echo writable; (: >> {path}) 2>&1"], **options)
        assert REFUSED.search(r.stdout) and "writable" not in r.stdout, (path, r)
        assert os.access(path, os.W_OK)


@pytest.mark.parametrize("options", [{}, {"init": True}, {"userns": "private"}])
def test_a_container_cannot_write_sysfs(options: dict[str, Any], inside: Run, needs_root: None) -> None:
    for path in exist(SYSFS):
        assert REFUSED.search(inside(["sh", "-c", f"(: >> {path}) 2>&1"], **options).stdout), path
        assert os.access(path, os.W_OK)
    r = inside(
        [
            "sh",
            "-c",
            "mkdir /sys/fs/cgroup/x; ls /sys/kernel/debug /sys/kernel/tracing /sys/firmware | grep -v : | tr -d '\\n'",
        ],
        **options,
    )
    assert r.stdout == "" and "mkdir" in r.stderr


def test_a_container_cannot_read_the_kernels_log(
    inside: Run, hostile: Run, outside: Run, needs_root: None
) -> None:
    assert inside(["sh", "-c", "head -c 1 /proc/kmsg"]).stdout == ""
    assert hostile("sys", 103, 3, "b:4096", 4096)["call"] == (-1, 1)
    assert outside("sys", 103, 3, "b:4096", 4096)["call"][0] >= 0


@pytest.mark.parametrize("target", ["/proc", "/proc/self/attr", "/proc/sys", "/proc/1", "/proc/self"])
@pytest.mark.parametrize("option", ["tmpfs", "volumes"])
def test_nothing_can_be_laid_over_proc_to_catch_writes(target: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "attr").mkdir()
    value = [target] if option == "tmpfs" else [f"{tmp_path}:{target}"]
    with pytest.raises(pyminicon.Error, match="proc"):
        pyminicon.run(["true"], **{option: value})


def test_the_set_up_writes_to_the_kernels_own_proc_whatever_the_image_has(
    own_rootfs: Path, inside: Run, needs_root: None
) -> None:
    """uid_map, attr and oom_score_adj of an image that brings a /proc of its own stay as they are (CVE-2025-52881)."""
    fake = own_rootfs / "proc" / "self"
    fake.mkdir()
    for name in ("uid_map", "gid_map", "setgroups", "oom_score_adj", "attr"):
        (fake / name).write_text("untouched")
    r = inside(
        ["sh", "-c", "cat /proc/self/uid_map; stat -f -c %T /proc"],
        image=str(own_rootfs),
        userns="0:231072:1000",
    )
    assert r.stdout.split() == ["0", "231072", "1000", "proc"]
    assert {path.read_text() for path in fake.iterdir()} == {"untouched"}
