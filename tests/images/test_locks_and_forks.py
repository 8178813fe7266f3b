"""Locks of the store aren't kept by workers that were forked meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from pyminicon.images import locks
from pyminicon.images.lookup import private
from tests.support.waiting import soon


def worker() -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return pid


def free(path: Path) -> bool:
    fd = locks.lock(str(path), fcntl.LOCK_EX | fcntl.LOCK_NB, os.O_RDONLY | os.O_CLOEXEC)
    if fd is not None:
        os.close(fd)
    return fd is not None


@pytest.mark.parametrize("kind", ["directory", "staging", "store"])
def test_a_lock_ends_with_its_holder_and_not_with_a_worker(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    what = place
    if kind == "directory":
        fd = locks.lock(str(place), fcntl.LOCK_EX)
        assert fd is not None and not free(place)
        pid = worker()
        os.close(fd)
    elif kind == "staging":
        with locks.Staging(str(place)):
            assert not free(place)
            pid = worker()
        place.mkdir(exist_ok=True)
    else:
        what = place / "lock"
        with locks.StoreLock(str(place)):
            pid = worker()
    try:
        assert soon(lambda: free(what), 30)  # the worker comes to it when it runs
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_workers_own_files_stay_open(tmp_path: Path) -> None:
    fd = private(os.open(tmp_path, os.O_RDONLY))
    os.close(fd)
    again = os.open("/dev/null", os.O_RDONLY)  # by the number that was a lock's
    assert again == fd
    pid = os.fork()
    if pid == 0:
        os._exit(0 if os.fstat(again) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(again)
