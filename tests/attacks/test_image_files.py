"""Files of an image that the caller reads itself: what they are is known before they are opened."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from pyminicon import SpecError, _core
from tests.images.tars import device, file, tar
from tests.support.roots import copy_program

_IN_OPEN, _IN_NONBLOCK = 0x20, 0o4000
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Opened:
    """Notices every open of some files but those that only look (O_PATH)."""

    def __init__(self, *paths: Path) -> None:
        self._fd = _libc.inotify_init1(_IN_NONBLOCK)
        for path in paths:
            assert _libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_OPEN) > 0

    def __call__(self) -> bool:
        try:
            return bool(os.read(self._fd, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._fd)


def _traps(place: Path) -> dict[str, Callable[[], object]]:
    def listening() -> None:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(place))

    return {
        "fifo": lambda: os.mkfifo(place),
        "device": lambda: os.mknod(place, 0o020666, os.makedev(1, 5)),
        "disk": lambda: os.mknod(place, 0o060666, os.makedev(7, 0)),
        "socket": listening,
        "directory": place.mkdir,
        "giant": lambda: (place.touch(), os.truncate(place, 10 << 30)),
    }


@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"init": True}, {"userns": "private"}])
@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("kind", ["fifo", "device", "disk", "socket", "directory", "giant"])
def test_what_is_no_file_of_users_is_never_opened(
    kind: str, name: str, options: dict[str, Any], own_rootfs: Path
) -> None:
    if kind in ("device", "disk") and os.geteuid() != 0:
        pytest.skip("needs root: makes a device")
    place = own_rootfs / "etc" / name
    place.unlink()
    _traps(place)[kind]()
    opened = Opened(place)
    try:
        with pytest.raises(SpecError, match=f"etc/{name} (is no regular file|has more than 1M)"):
            pyminicon.run(["true"], image=str(own_rootfs), user="alice:users", **options)
        with pytest.raises(SpecError, match=f"etc/{name}"):
            pyminicon.start(["true"], image=str(own_rootfs), user="alice:users", **options)
        with pytest.raises(SpecError, match=f"etc/{name}"):
            pyminicon.Template(image=str(own_rootfs), user="alice:users", **options)
        assert kind in ("directory", "giant") or not opened(), "it was opened"
    finally:
        opened.close()


def test_a_link_to_a_device_leads_to_it_and_is_not_opened(own_rootfs: Path, needs_root: None) -> None:
    trap = own_rootfs / "etc/trap"
    os.mknod(trap, 0o020666, os.makedev(1, 5))
    for target in ("trap", "/etc/trap", "../../../../etc/trap"):
        place = own_rootfs / "etc/passwd"
        place.unlink()
        place.symlink_to(target)
        opened = Opened(trap)
        with pytest.raises(SpecError, match="etc/passwd is no regular file"):
            pyminicon.run(["true"], image=str(own_rootfs), user="alice")
        assert not opened()
        opened.close()


def test_users_are_read_from_files_and_through_links(own_rootfs: Path) -> None:
    """The other half: the same names, where they are files."""
    place = own_rootfs / "etc/passwd"
    opened = Opened(place)
    place.rename(own_rootfs / "etc/users.of.mine")
    place.symlink_to("/etc/users.of.mine")
    outcome = pyminicon.run(["id", "-u"], image=str(own_rootfs), user="alice", capture_output=True, text=True)
    assert outcome.stdout == "1000\n", outcome
    assert opened(), "what notices an open notices none"
    opened.close()


def test_a_device_in_an_archive_is_not_opened(own_store: Path, tmp_path: Path, needs_root: None) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar(file("bin/x"), device("etc/passwd", 1, 5)))
    with pytest.raises(SpecError, match="etc/passwd is no regular file"):
        pyminicon.run(["x"], image=str(archive), user="alice")


def test_a_file_that_is_exchanged_meanwhile_is_never_opened_as_something_else(tmp_path: Path) -> None:
    place, trap = tmp_path / "etc/passwd", tmp_path / "etc/trap"
    place.parent.mkdir()
    place.write_bytes(b"root:x:0:0::/:/bin/sh\n")
    os.mkfifo(trap)
    opened, stop = Opened(trap), threading.Event()

    def swap() -> None:
        here, there = os.fsencode(place), os.fsencode(trap)
        while not stop.is_set():
            _libc.renameat2(-100, here, -100, there, _RENAME_EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        turn, until = 0, time.monotonic() + 60
        while turn < 5000 or (len(seen) < 2 and time.monotonic() < until):
            turn += 1
            try:
                seen.add(_core.read_beneath(str(tmp_path), "etc/passwd", 1 << 20))
            except OSError as error:
                seen.add(error.errno)
            try:
                os.close(_core.open_plain(str(place), True))
            except OSError:
                pass
    finally:
        stop.set()
        thread.join()
    assert len(seen) == 2, f"not exchanged while it was read: {seen}"
    assert not opened()
    opened.close()


def test_a_mount_of_the_hosts_over_a_file_of_users_is_not_read(own_rootfs: Path, needs_root: None) -> None:
    """The container sees what lies beneath it, so nothing may be concluded from it."""
    program = f"""
import ctypes, sys
import pyminicon
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0
place = {os.fsencode(own_rootfs / "etc/passwd")!r}
assert libc.mount({os.fsencode(own_rootfs / "etc/motd")!r}, place, None, 4096, None) == 0
try:
    pyminicon.run(["true"], image={str(own_rootfs)!r}, user="alice")
except pyminicon.SpecError as error:
    print(error)
"""
    import subprocess
    import sys

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "etc/passwd lies behind a mount of its own" in told.stdout


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_archives_layouts_profiles_and_files_are_known_before_they_are_opened(
    kind: str, tmp_path: Path, own_store: Path
) -> None:
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("needs root: makes a device")
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    place, index = tmp_path / "trap", layout / "index.json"
    _traps(place)[kind]()
    _traps(index)[kind]()
    opened = Opened(place, index)
    for options in (
        {"image": str(place)},
        {"image": str(layout)},
        {"image": "host", "seccomp": str(place)},
        {"image": "host", "files": {"/x": place}},
    ):
        with pytest.raises(SpecError):
            pyminicon.run(["true"], **options)
    assert not opened()
    opened.close()


def test_a_minimal_image_still_runs(own_rootfs: Path) -> None:
    copy_program(own_rootfs, "/bin/true")
    assert pyminicon.run(["true"], image=str(own_rootfs), user="1000").returncode == 0
