"""One container and another: what passes between them, in parallel or one after the other, and what may."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]

LEAVE = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(4711, 4096, 0o1666) >= 0, libc.semget(4711, 1, 0o1666) >= 0, libc.msgget(4711, 0o1666) >= 0)
print(libc.mq_open(b"/attack", os.O_RDWR | os.O_CREAT, 0o666, None) >= 0)
open("/dev/shm/attack", "w").write("x"); open("/tmp/attack", "w").write("x"); open("/usr/attack", "w").write("x")
s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + "attack-box"); s.listen()
print("left", flush=True)
"""
FIND = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(4711, 4096, 0) >= 0, libc.semget(4711, 1, 0) >= 0, libc.msgget(4711, 0) >= 0, libc.mq_open(b"/attack", os.O_RDWR) >= 0)
print(*map(os.path.exists, ("/dev/shm/attack", "/tmp/attack", "/usr/attack")))
t = socket.socket(socket.AF_UNIX)
print(t.connect_ex(chr(0) + "attack-box") == 0)
"""
NOTHING = ["False"] * 8


def test_nothing_passes_to_a_container_beside_or_after(needs_root: None) -> None:
    stay = LEAVE + "\nimport time; time.sleep(60)"
    with pyminicon.start(["python", "-c", stay], image="python", stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert [first.stdout.readline() for _ in range(3)] == ["True True True\n", "True\n", "left\n"]
        beside = pyminicon.run(["python", "-c", FIND], image="python", capture_output=True, text=True)
        assert beside.stdout.split() == NOTHING
    after = pyminicon.run(["python", "-c", FIND], image="python", capture_output=True, text=True)
    assert after.stdout.split() == NOTHING


def test_the_same_look_finds_all_of_it_in_the_same_container() -> None:
    r = pyminicon.run(["python", "-c", LEAVE + FIND], image="python", capture_output=True, text=True)
    assert r.stdout.split()[-8:] == ["True"] * 8


def test_nothing_passes_from_one_run_of_a_template_to_the_next() -> None:
    with pyminicon.Template(image="python", stock=2) as template:
        for _ in range(3):
            assert template.run(["python", "-c", LEAVE], capture_output=True, text=True).stdout.endswith(
                "left\n"
            )
            assert (
                template.run(["python", "-c", FIND], capture_output=True, text=True).stdout.split() == NOTHING
            )


def test_a_lock_on_a_file_that_was_made_inside_is_seen_by_nobody_else() -> None:
    script = "flock -x /tmp/own sh -c 'echo held; sleep 30'"
    with pyminicon.start(["sh", "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert pyminicon.run(["flock", "-n", "/tmp/own", "true"]).returncode == 0


def test_a_shared_volume_is_no_boundary(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    volume = [f"{tmp_path}:/data"]
    with pyminicon.start(
        ["flock", "-x", "/data/lock", "sh", "-c", "echo held; sleep 30"],
        volumes=volume,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert pyminicon.run(["flock", "-n", "/data/lock", "true"], volumes=volume).returncode == 1
        # Its own inode, unlike the volume's: no lock is seen.
        assert pyminicon.run(["sh", "-c", "touch /tmp/lock; flock -n /tmp/lock true"]).returncode == 0


NOTIFY = """
import fcntl, os, signal, sys, time
seen = []
signal.signal(signal.SIGIO, lambda number, frame: seen.append(number))
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(fd, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_CREATE | fcntl.DN_MULTISHOT)
print("ready", flush=True)
input()
print(len(seen) > 0, flush=True)
os.close(os.open(sys.argv[1] + "/made-by-itself", os.O_CREAT | os.O_WRONLY))
time.sleep(0.1)
print(len(seen) > 0, flush=True)
"""


@pytest.mark.parametrize("place, shared", [("/usr/share", False), ("/data", True)])
def test_who_asks_for_notices_of_a_directory_hears_of_its_own_use_alone(
    place: str, shared: bool, tmp_path: Path
) -> None:
    """F_NOTIFY. The directory that both see by the image is an inode of each; a volume's is one for both."""
    if not shared and not os.access(place, os.W_OK):
        pytest.skip("needs root to write into the image's own directories")
    options: dict[str, Any] = {"volumes": [f"{tmp_path}:/data"]}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with pyminicon.start(
        ["python", "-c", NOTIFY, place], image="python", init=True, **streams, **options
    ) as box:
        assert box.stdin is not None and box.stdout is not None and box.stdout.readline() == b"ready\n"
        other = ["sh", "-c", f"echo x > {place}/made && cat {place}/made"]
        assert pyminicon.run(other, image="python", capture_output=True, **options).stdout == b"x\n"
        box.stdin.write(b"\n")
        box.stdin.flush()
        assert box.stdout.readline() == f"{shared}\n".encode()
        assert box.stdout.readline() == b"True\n"
