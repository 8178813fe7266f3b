"""A run's mounts are taken apart by the reaper when the run has its answer: soon, by nobody else, and not where
somebody could miss what lies beneath them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pyminicon
from tests.support.guards import guards_of
from tests.support.python import fresh

LASTS = ["sleep", "1"]
SOON = 30.0  # seconds


def held_mounts(pid: int | str = "self") -> int:
    """How many mount namespaces a process has open descriptors of."""
    folder, count = Path(f"/proc/{pid}/fd"), 0
    for name in os.listdir(folder):
        try:
            count += os.readlink(folder / name).startswith("mnt:[")
        except OSError:
            continue
    return count


def while_it_runs(**options: Any) -> tuple[threading.Thread, int]:
    """A run in another thread, and how many mount namespaces this process holds meanwhile."""
    runner = threading.Thread(target=pyminicon.run, args=(LASTS,), kwargs=options)
    runner.start()
    deadline = time.monotonic() + SOON
    while not (held := held_mounts()) and runner.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    return runner, held


@pytest.fixture(autouse=True)
def warm() -> None:
    pyminicon.run(["true"])


def test_a_runs_mounts_are_held_while_it_runs_and_gone_soon_after() -> None:
    runner, held = while_it_runs()
    assert held == 1
    runner.join()
    assert held_mounts() == 0
    guards = guards_of(os.getpid())
    deadline = time.monotonic() + SOON
    while any(map(held_mounts, guards)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(held_mounts, guards))


def test_a_worker_that_is_forked_meanwhile_holds_none_of_them() -> None:
    runner, held = while_it_runs()
    assert held == 1
    worker = os.fork()
    if worker == 0:
        os._exit(held_mounts())
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    runner.join()


def test_a_volume_is_free_when_the_run_has_ended(tmp_path: Path) -> None:
    runner, held = while_it_runs(volumes=[f"{tmp_path}:/v"])
    assert held == 0
    runner.join()


def test_an_image_on_a_disk_of_its_own_is_free_when_the_run_has_ended(needs_root: None, rootfs: Path) -> None:
    line = f"""
import ctypes, subprocess
from tests.container.test_undoing import while_it_runs
assert ctypes.CDLL(None).unshare(0x20000) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "ramfs", "none", "/mnt"], check=True)
subprocess.run(["cp", "-a", "{rootfs}/.", "/mnt"], check=True)
runner, held = while_it_runs(image="/mnt")
runner.join()
print(held)
"""
    assert fresh(line).stdout == "0\n"


def test_the_python_image_is_free_where_a_part_of_it_lies_on_a_disk_of_its_own(needs_root: None) -> None:
    line = """
import ctypes, os, subprocess, sys
from tests.container.test_undoing import while_it_runs
assert ctypes.CDLL(None).unshare(0x20000) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "ramfs", "none", "/mnt"], check=True)
os.makedirs("/mnt/lib/site-packages")
runner, before = while_it_runs(image="python")
runner.join()
sys.path.append("/mnt/lib/site-packages")
runner, held = while_it_runs(image="python")
runner.join()
print(before, held)
"""
    assert fresh(line).stdout == "1 0\n"


def test_a_program_that_has_closed_all_descriptors_keeps_what_it_opened_since() -> None:
    line = """
import os, tempfile
import pyminicon
pyminicon.run(["true"])
os.closerange(3, 256)
files = [tempfile.TemporaryFile() for _ in range(20)]
for _ in range(3):
    assert pyminicon.run(["true"]).returncode == 0
worker = os.fork()
sizes = {os.fstat(file.fileno()).st_size for file in files}
if worker == 0:
    os._exit(0 if sizes == {0} else 1)
print(os.waitpid(worker, 0)[1], sizes)
"""
    assert fresh(line).stdout == "0 {0}\n"
