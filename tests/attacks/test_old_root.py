"""What is above and before the root: the old root, kept descriptors, mounts that were left (pivot_root, not chroot)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    made = tmp_path / "canary"
    made.write_text("of the host\n")
    return made


@pytest.mark.parametrize("image", ["host", "directory"])
def test_a_container_cannot_walk_out_by_chroot_and_a_kept_directory(
    image: str, rootfs: Path, hostile: Run, outside: Run, canary: Path, needs_root: None
) -> None:
    found = hostile("chroot", canary, image=str(rootfs) if image == "directory" else "host")
    assert found["chroot"] == (0, 0)  # docker's capabilities allow the call: it leads nowhere
    assert found["found"][0] == found["above"][0] == -1
    # A root made by chroot alone is left like that: so it is pivot_root that holds.
    assert outside("chroot", canary)["found"] == (0, 0)


def test_a_container_cannot_find_the_host_behind_proc_1_root(inside: Run, canary: Path) -> None:
    script = f"ls -d /proc/1/root{canary} /proc/1/cwd{canary} /proc/self/root{canary} /proc/*/root{canary}; ls -d /proc/1/root/proc"
    r = inside(["sh", "-c", script])
    assert r.stdout == "/proc/1/root/proc\n"
    assert Path(f"/proc/self/root{canary}").exists()


def test_no_mount_of_the_host_is_left(inside: Run) -> None:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    host = {row[4] for row in mounts}
    programs = {row[row.index("-") + 1] for row in mounts if row[4] in ("/", "/usr")}
    for options in ({}, {"read_only": True}, {"init": True}):
        lines = inside(["cat", "/proc/self/mountinfo"], **options).stdout.splitlines()
        kinds = {line.partition(" - ")[2].split()[0] for line in lines}
        own = {"tmpfs", "overlay", "proc", "sysfs", "devpts", "mqueue"}
        if os.geteuid() != 0:  # device nodes are bound, and before Linux 6.6 the layer is on disk
            own |= {"devtmpfs"} | {
                row[row.index("-") + 1] for row in mounts if row[4] == "/" or "/var" in row[4]
            }
        assert kinds <= (own | programs if options.get("read_only") else own)
        assert not any("master:" in line or "shared:" in line for line in lines), "propagation"
        places = {line.split()[4] for line in lines}
        assert places.isdisjoint(place for place in host if place.startswith(("/mnt/", "/home/", "/boot")))


def test_a_container_cannot_mount_or_unmount(inside: Run, needs_root: None) -> None:
    script = "mount -t tmpfs none /mnt; umount /proc/keys; umount -l /proc; mount -o remount,rw /sys; mount --bind / /mnt; cat /proc/keys; ls /proc/1/exe"
    r = inside(["sh", "-c", script])
    assert r.stdout == "/proc/1/exe\n" and "permission denied" in r.stderr.lower() + "permission denied" * (
        "must be superuser" in r.stderr
    )
    # With the capability, and so a filter that lets it through, mounts stay inside.
    r = inside(["sh", "-c", "mount -t tmpfs none /mnt && touch /mnt/made && ls /mnt"], cap_add=["SYS_ADMIN"])
    assert r.stdout == "made\n" and not Path("/mnt/made").exists()


@pytest.mark.parametrize("number, name", [(304, "open_by_handle_at"), (303, "name_to_handle_at"), (428, "open_tree"),
                                           (429, "move_mount"), (430, "fsopen"), (442, "mount_setattr"), (155, "pivot_root")])  # fmt: skip
def test_a_container_cannot_use_calls_that_reach_past_its_root(
    number: int, name: str, hostile: Run, outside: Run
) -> None:
    result, error = hostile("sys", number, -1, "s:", 0)["call"]
    if (
        name == "name_to_handle_at"
    ):  # harmless by itself, as docker has it: only opening by handle reaches out
        assert result == -1
        return
    assert (result, error) in ((-1, 1), (-1, 38))
    if os.geteuid() == 0:  # nobody else may call them outside either
        assert outside("sys", number, -1, "s:", 0)["call"][1] not in (1, 38)
