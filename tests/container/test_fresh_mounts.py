"""From Linux 7.0 a container's mount namespace is made without the host's mounts: what it costs doesn't grow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyminicon
from tests.support.filtered import raw

OPEN_TREE, OPEN_TREE_NAMESPACE = 428, 2
MOST = Path("/proc/sys/fs/mount-max")


def has_fresh_mounts() -> bool:
    fd = raw(OPEN_TREE, -100, b"/", OPEN_TREE_NAMESPACE | os.O_CLOEXEC)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


@pytest.fixture
def no_room_for_the_hosts_mounts() -> Iterator[None]:
    """A namespace may hold no more mounts than the host has now: a copy of them all leaves no room for one more."""
    if os.environ.get("PYMINICON_VM") != "1":
        pytest.skip("needs a machine whose limits are nobody else's (make vm-test)")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    pyminicon.run(["true"])
    before = MOST.read_text()
    MOST.write_text(str(max(20, len(Path("/proc/self/mountinfo").read_text().splitlines()))))
    yield
    MOST.write_text(before)


@pytest.mark.parametrize("options", [{"read_only": True}, {"user": "1000"}, {"init": True}], ids=repr)
def test_no_mount_of_the_hosts_is_ever_in_the_containers_namespace(
    options: dict[str, object], rootfs: Path, no_room_for_the_hosts_mounts: None
) -> None:
    if has_fresh_mounts():
        # The container has more mounts of its own than the limit: /proc and the devices say that it got that far.
        try:
            pyminicon.run(["true"], image=str(rootfs), **options)
        except pyminicon.LaunchError as error:
            assert error.stage in ("mount", "sysfs") and error.subject not in ("/proc", "/dev")
    else:
        with pytest.raises(pyminicon.LaunchError) as caught:
            pyminicon.run(["true"], image=str(rootfs), **options)
        assert (caught.value.stage, caught.value.errno) == ("rootfs", errno.ENOSPC)


def test_no_mount_inside_is_a_peer_of_one_outside(rootfs: Path, tmp_path: Path) -> None:
    limits = [{"memory": "64M"}] if os.geteuid() == 0 else []
    for options in ({}, {"image": str(rootfs)}, {"volumes": [f"{tmp_path}:/v"]}, *limits):
        r = pyminicon.run(
            ["cat", "/proc/self/mountinfo"], capture_output=True, text=True, check=True, **options
        )
        assert "shared:" not in r.stdout and "master:" not in r.stdout
