"""Device nodes: made inside, brought by an image or a volume; and the terminal, memory and disks behind them."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon.options import parse as specs
from pyminicon.plan import build as plans

Run = Callable[..., Any]

WHERE = ["/", "/tmp", "/root", "/dev/shm", "/usr", "/run", "/mnt/volume", "/mnt/tmpfs"]


@pytest.mark.parametrize("options", [{}, {"init": True}])
def test_a_container_cannot_open_a_device_it_makes(
    options: dict[str, Any], inside: Run, tmp_path: Path, needs_root: None
) -> None:
    lines = [
        f"mknod {place}/node c 1 5 2>/dev/null && echo made && head -c 1 {place}/node | wc -c"
        for place in WHERE
    ]
    r = inside(
        ["sh", "-c", "\n".join(lines)], volumes=[f"{tmp_path}:/mnt/volume"], tmpfs=["/mnt/tmpfs"], **options
    )
    words = r.stdout.split()
    assert words.count("made") >= 6, r  # docker's capabilities let it be made
    assert set(words) - {"made"} == {"0"}, "and never opened"
    # The node that was left in the volume works outside: nodev is what stopped it.
    with open(tmp_path / "node", "rb", buffering=0) as device:
        assert device.read(1) == b"\0"


def test_nor_where_the_container_may_not_make_any(inside: Run, needs_root: None) -> None:
    r = inside(["sh", "-c", "mknod /tmp/node c 1 5; ls /tmp"], cap_drop=["MKNOD"])
    assert r.stdout == "" and "not permitted" in r.stderr
    r = inside(["sh", "-c", "mknod /tmp/node c 1 5; ls /tmp"], userns="private")
    assert r.stdout == "" and "not permitted" in r.stderr


def test_dev_has_the_usual_ones_and_takes_no_more(inside: Run, needs_root: None) -> None:
    script = "mknod /dev/new c 1 5; mknod /dev/pts/new c 1 5; touch /dev/x; ls /dev; find /dev -type b"
    r = inside(["sh", "-c", script])
    assert set(r.stdout.split()) == {
        "fd",
        "full",
        "mqueue",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    }
    assert r.stderr.count("Read-only file system") >= 2
    assert inside(
        ["sh", "-c", "head -c 1 /dev/zero | wc -c; echo > /dev/null && echo ok"]
    ).stdout.split() == ["1", "ok"]


@pytest.mark.parametrize("read_only", [False, True])
def test_device_nodes_of_an_image_or_a_volume_cannot_be_opened(
    read_only: bool, own_rootfs: Path, tmp_path: Path, inside: Run, needs_root: None
) -> None:
    disk = os.stat("/").st_dev
    for place in (own_rootfs, tmp_path):
        os.mknod(place / "disk", 0o666 | stat.S_IFBLK, disk)
        os.mknod(place / "memory", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    script = "for n in /disk /memory /data/disk /data/memory; do head -c 1 $n; done"
    (own_rootfs / "data").mkdir()
    r = inside(
        ["sh", "-c", script], image=str(own_rootfs), volumes=[f"{tmp_path}:/data"], read_only=read_only
    )
    assert r.stdout == "" and r.stderr.count("Permission denied") == 4
    assert (own_rootfs / "memory").open("rb").read(1) == b"\0"


def test_ptys_are_the_containers_own(inside: Run) -> None:
    host = os.openpty()
    try:
        r = inside(["sh", "-c", "ls /dev/pts; stat -c %a /dev/pts/ptmx"])
        assert r.stdout.split() == ["ptmx", "666"]
        assert len(os.listdir("/dev/pts")) >= 2
    finally:
        os.close(host[0])
        os.close(host[1])


KMSG = "mount -t tmpfs none /mnt && mknod /mnt/kmsg c 1 11 && mknod /mnt/disk b {disk} && mknod /mnt/zero c 1 5 && echo made; for n in kmsg disk zero; do (: < /mnt/$n) && echo $n; done; :"


def disk() -> str:
    """The numbers of a block device that this kernel has."""
    for name in sorted(os.listdir("/sys/block")):
        return Path(f"/sys/block/{name}/dev").read_text().strip().replace(":", " ")
    return "7 0"


@pytest.mark.parametrize(
    "options",
    [{}, {"init": True}, {"seccomp": "unconfined"}, {"memory": "64M"}, {"cap_add": ["ALL"]}],
    ids=repr,
)
def test_one_that_may_mount_without_nodev_opens_only_the_usual_devices(
    options: dict[str, Any], inside: Run, needs_root: None
) -> None:
    """It is in a cgroup that holds it off the others, whatever the node is called and wherever it lies."""
    script = KMSG.format(disk=disk())
    wanted: dict[str, Any] = {"cap_add": ["SYS_ADMIN", "SYSLOG"], **options}
    assert inside(["sh", "-c", script], **wanted).stdout.split() == ["made", "zero"]
    r = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    assert {"made", "kmsg", "zero"} <= set(r.stdout.split())


def test_one_that_may_mount_in_a_user_namespace_of_its_own_makes_none_and_needs_no_cgroup(
    inside: Run, needs_root: None
) -> None:
    script = "mount -t tmpfs none /mnt && echo mounted; mknod /mnt/zero c 1 5 && echo made; mount -t devtmpfs none /mnt && echo all; head -c 1 /mnt/zero | wc -c"
    r = inside(["sh", "-c", script], cap_add=["SYS_ADMIN"], userns="private")
    assert r.stdout.split() == ["mounted", "0"], r
    for userns, held in (("private", False), ("host", True)):
        plan = plans.build(specs.parse(["true"], {"cap_add": ["SYS_ADMIN"], "userns": userns}))
        assert (plan.fields.get("cgroup") is not None) is held


@pytest.mark.parametrize("device", ["/dev/null", "/dev/kmsg"])
def test_a_device_is_refused_as_a_volume(device: str, tmp_path: Path, inside: Run, needs_root: None) -> None:
    """It could be opened nowhere, every volume being nodev; a directory with one in it can be a volume."""
    with pytest.raises(pyminicon.LaunchError, match="a device can't be a volume"):
        inside(["true"], volumes=[f"{device}:/mnt/device"])
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    r = inside(["sh", "-c", "ls /data; : < /data/null"], volumes=[f"{tmp_path}:/data"])
    assert r.stdout == "null\n" and "Permission denied" in r.stderr
