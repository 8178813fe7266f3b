"""The launching process's memory, hunted by a process of the container's user while containers are launched."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pyminicon

Run = Callable[..., Any]

UID = 4321
SECRET = ctypes.create_string_buffer(b"the-launchers-secret")
LIBC = ctypes.CDLL(None)
PR_GET_DUMPABLE = 3


def hunt(running: Run, process: int, address: int, work: Callable[[], Any]) -> dict[str, int]:
    hunter = running("hunt", UID, process, address)
    assert hunter.stdout.readline() == "hunting\n"
    work()
    hunter.stdin.close()
    return {name: int(value) for name, value in (line.split() for line in hunter.stdout.read().splitlines())}


def launches(options: dict[str, Any], count: int = 25) -> None:
    for _ in range(count):
        pyminicon.run(["true"], **options)


@pytest.mark.parametrize(
    "options",
    [
        {"user": str(UID)},
        {"user": str(UID), "init": True},
        {"user": str(UID), "memory": "64M"},
        {"userns": f"0:{UID}:1"},
        {},
    ],
    ids=["user", "init", "memory", "mapped", "root"],
)
def test_a_process_of_the_containers_user_cannot_read_the_launcher(
    options: dict[str, Any], running: Run, needs_root: None
) -> None:
    def work() -> None:
        with ThreadPoolExecutor(3) as pool:
            for made in [pool.submit(launches, options) for _ in range(3)]:
                made.result()

    found = hunt(running, os.getpid(), ctypes.addressof(SECRET), work)
    assert found["looks"] > 100
    assert found["hits"] == 0, "memory of the launcher was read"
    assert found["helpers"] == 0, "a container that is being made could be looked into"


def test_nor_while_a_template_makes_its_stock(running: Run, needs_root: None) -> None:
    def work() -> None:
        with pyminicon.Template(user=str(UID), stock=4) as template:
            for _ in range(40):
                template.run(["true"])

    found = hunt(running, os.getpid(), ctypes.addressof(SECRET), work)
    assert found["looks"] > 20 and found["hits"] == found["helpers"] == 0


def test_the_hunter_finds_the_secret_where_it_may_be_read(running: Run, needs_root: None) -> None:
    holder = running("hold", user=UID, group=UID)
    pid, address = holder.stdout.readline().split()
    found = hunt(running, int(pid), int(address, 16), lambda: pyminicon.run(["true"]))
    assert found["hits"] > 0


@pytest.mark.parametrize(
    "options", [{"user": str(UID)}, {"init": True}, {"userns": "private"}, {}, {"volumes": ["/usr:/mnt:ro"]}]
)
def test_the_launchers_dumpable_flag_is_as_it_was(options: dict[str, Any], needs_root: None) -> None:
    before = LIBC.prctl(PR_GET_DUMPABLE)
    seen = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(LIBC.prctl(PR_GET_DUMPABLE))

    watcher = threading.Thread(target=watch)
    watcher.start()
    launches(options, 20)
    with pytest.raises(pyminicon.LaunchError):
        pyminicon.run(["/no/such/program"], **options)
    done.set()
    watcher.join()
    assert seen == {before} and LIBC.prctl(PR_GET_DUMPABLE) == before
