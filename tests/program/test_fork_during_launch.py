"""A worker that another thread forks while a container is launched holds nothing of the launch's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pyminicon

KINDS: list[dict[str, Any]] = [
    {},
    {"init": True},
    {"userns": "private"},
    {"user": "1000"},
    {"storage": "disk", "image": "host"},
]


@contextmanager
def workers_forked_all_the_time() -> Iterator[list[int]]:
    """Workers that live until the end of the block, forked by a thread of its own."""
    made: list[int] = []
    stop = threading.Event()

    def fork() -> None:
        while not stop.wait(0.002) and len(made) < 150:
            pid = os.fork()
            if pid == 0:
                time.sleep(120)
                os._exit(0)
            made.append(pid)

    thread = threading.Thread(target=fork)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()
        for pid in made:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.slow_in_vm
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_run_does_not_wait_for_such_workers(options: dict[str, Any]) -> None:
    if "user" in options and os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    pyminicon.run(["true"], **options)
    with workers_forked_all_the_time() as workers:
        turn = 0
        while turn < 15 or len(workers) <= 3:  # else the race wasn't tried
            turn += 1
            r = pyminicon.run(["echo", "there"], capture_output=True, timeout=60, **options)
            assert (r.returncode, r.stdout) == (0, b"there\n")


@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("init", [False, True])
def test_a_worker_has_no_descriptor_of_the_cores(init: bool) -> None:
    def opened() -> set[str]:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
            except FileNotFoundError:
                continue
        return found

    pyminicon.run(["true"])
    others = {entry for entry in opened() if "memfd:pyminicon" not in entry}  # other tests' as well
    with pyminicon.start(["sleep", "60"], init=init) as box, pyminicon.Template(stock=1) as template:
        assert template.ready >= 0 and box.poll() is None
        ours = {
            entry
            for entry in opened() - others
            if "pidfd" in entry or "pyminicon" in entry or "socket" in entry
        }
        assert ours, "there should be some to inherit"
        worker = os.fork()
        if worker == 0:
            os._exit(len(ours & opened()))
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
        assert box.poll() is None
        box.kill()
        assert box.wait(10) == -9
        assert template.run(["true"]).returncode == 0


@pytest.mark.filterwarnings("ignore:This process")
def test_a_worker_launches_its_own_and_closes_nothing_of_its_own() -> None:
    """What the parent's handles name are other files in the worker by then."""
    box = pyminicon.start(["sleep", "60"], init=True)
    worker = os.fork()
    if worker == 0:
        mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)]
        good = pyminicon.run(["true"]).returncode == 0
        del box
        good = good and all(os.fstat(fd) for fd in mine)
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    assert box.poll() is None
    box.kill()
    assert box.wait(10) == -9
    box.close()
